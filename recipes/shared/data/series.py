"""Real time series that ship in the wheel of aeon: nothing is downloaded.

They are from the UCR and UEA archives (Dau et al. 2019, Bagnall et al. 2018), whose own split into
training and test is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recipes.shared.data.labelled_images import TrainingPlan
from recipes.shared.data.labelled_tensors import LabelledTensors, TensorData


@dataclass(frozen=True)
class SeriesSet:
    """One of the sets.

    Attributes:
        name: title for people.
        loader: the function of `aeon.datasets` that reads it.
        classes: names by the archive's labels, in the order of the classes.
        plan: settings of the training.
    """

    name: str
    loader: str
    classes: Mapping[str, str]
    plan: TrainingPlan


SERIES_SETS = {
    "gun_point": SeriesSet(
        "GunPoint",
        "load_gunpoint",
        {"1": "gun", "2": "point"},
        TrainingPlan(max_epochs=250, batch_size=16, learning_rate=2e-3),
    ),
    "italy_power_demand": SeriesSet(
        "ItalyPowerDemand",
        "load_italy_power_demand",
        {"1": "October to March", "2": "April to September"},
        TrainingPlan(max_epochs=150, batch_size=16, learning_rate=2e-3),
    ),
    "basic_motions": SeriesSet(
        "BasicMotions",
        "load_basic_motions",
        {name: name for name in ("badminton", "running", "standing", "walking")},
        TrainingPlan(max_epochs=200, batch_size=16, learning_rate=2e-3),
    ),
}


def load_series(dataset: str) -> TensorData:
    """The series of that name, each channel normalised by its moments over the training series.

    Args:
        dataset: one of `SERIES_SETS`.

    Raises:
        ValueError: if there is no set of that name.
        ModuleNotFoundError: without aeon.
    """
    if dataset not in SERIES_SETS:
        raise ValueError(f"dataset must be one of {', '.join(SERIES_SETS)}; got {dataset!r}")
    chosen = SERIES_SETS[dataset]
    loader = _loader(chosen.loader)
    return assemble_series(chosen, loader(split="train"), loader(split="test"))


def _loader(name: str) -> Callable[..., Any]:
    try:
        import aeon.datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "aeon is not installed: the series of this recipe ship in its wheel; it comes with "
            'the extra "series"'
        ) from error
    found: Callable[..., Any] = getattr(aeon.datasets, name)
    return found


def assemble_series(chosen: SeriesSet, train: tuple[Any, Any], test: tuple[Any, Any]) -> TensorData:
    """Training and test series, each (N, C, L) with their N labels as the archive writes them."""
    values = torch.from_numpy(np.asarray(train[0]))
    mean = values.mean(dim=(0, 2), keepdim=True)
    std = values.std(dim=(0, 2), keepdim=True)
    labels = list(chosen.classes)
    names = tuple(chosen.classes.values())

    def part(series: Any, of_series: Any) -> LabelledTensors:
        tensors: Tensor = (torch.from_numpy(np.asarray(series)) - mean) / std
        indices = torch.tensor([labels.index(str(label)) for label in of_series])
        return LabelledTensors(tensors, indices, names)

    return TensorData(chosen.name, part(*train), part(*test), names, chosen.plan)
