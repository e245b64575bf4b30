"""Numbers, pairs and paths of every configuration system."""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aopc_monitor import AOPC, AOPCMonitor, heatmaps, normalized_data_range
from aopc_monitor.perturbation.data_range import data_range_tensors
from aopc_monitor.perturbation.protocol import PerturbationProtocol
from aopc_monitor.perturbation.replacements import Constant
from aopc_monitor.utilities.configured import plain_value


class ListConfig(MutableSequence[Any]):
    """A sequence that is no list, as OmegaConf has it."""

    def __init__(self, *entries: Any) -> None:
        self.entries = list(entries)

    def __getitem__(self, index: Any) -> Any:
        return self.entries[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        raise NotImplementedError

    def __delitem__(self, index: Any) -> None:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.entries)

    def insert(self, index: int, value: Any) -> None:
        raise NotImplementedError


PAIRS = [
    ListConfig(0.0, 1.0),
    (ListConfig(0.0, 0.0, 0.0), ListConfig(1.0, 1.0, 1.0)),
    ListConfig(ListConfig(0.0, 0.0, 0.0), 1.0),
    np.array([0.0, 1.0]),
    (np.zeros(3), np.ones(3)),
    torch.tensor([0.0, 1.0]),
    (torch.zeros(3, 1, 1), torch.ones(3)),
    (np.float32(0), np.int64(1)),
]


@pytest.mark.parametrize("pair", PAIRS)
def test_data_ranges_of_all_kinds(pair: Any) -> None:
    low, high = data_range_tensors(pair, channels=3)
    assert low.flatten().tolist() == [0.0] * 3
    assert high.flatten().tolist() == [1.0] * 3
    kept = PerturbationProtocol(4, 8, pair).data_range
    assert set(map(type, _flat(kept))) <= {float, int}
    assert AOPCMonitor(data_range=pair).settings.choices.data_range is not None


def _flat(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return [number for entry in value for number in _flat(entry)]
    return [value]


@pytest.mark.parametrize("wrong", ["01", np.zeros(3), ListConfig(0.0), {0.0: 1.0}, 1.0])
def test_what_is_no_pair(wrong: Any) -> None:
    with pytest.raises(ValueError, match="is not a pair"):
        data_range_tensors(wrong)


@pytest.mark.parametrize("of", [ListConfig, lambda *v: np.array(v), lambda *v: torch.tensor(v)])
def test_normalisation_of_all_kinds(of: Any) -> None:
    low, high = normalized_data_range(of(0.5, 0.25), of(0.5, 0.25))
    assert (low, high) == ([-1.0, -1.0], [1.0, 3.0])


def test_counts_of_numpy_and_torch_are_kept_as_numbers() -> None:
    protocol = PerturbationProtocol(
        np.int64(4), torch.tensor(8), (0, 1), repeats=np.int32(2), sampled_steps=np.int8(3)
    )  # type: ignore[arg-type]
    kept = (protocol.region_size, protocol.steps, protocol.repeats, protocol.sampled_steps)
    assert kept == (4, 8, 2, 3)
    assert set(map(type, kept)) == {int}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.int64(3), 3),
        (torch.tensor(3), 3),
        (ListConfig(2, 5), [2, 5]),
        (np.array([2, 5]), [2, 5]),
        (torch.tensor([2, 5]), [2, 5]),
        (range(2, 8, 3), range(2, 8, 3)),
    ],
)
def test_schedules_of_all_kinds(given: Any, kept: Any) -> None:
    assert AOPCMonitor(every_n_steps=given).every_n_steps == kept


def test_heatmaps_in_a_list_of_a_configuration() -> None:
    assert list(AOPCMonitor(ListConfig("lrp", "sensitivity_l2")).heatmaps) == [
        "lrp",
        "sensitivity_l2",
    ]


@pytest.mark.parametrize(
    "value",
    [
        [1.0, 2.0, 3.0],
        ListConfig(1.0, 2.0, 3.0),
        np.array([1.0, 2.0, 3.0]),
        torch.tensor([1.0, 2.0, 3.0])[:, None, None],
    ],
)
def test_a_constant_of_one_value_per_channel(value: Any) -> None:
    constant, images = Constant(value), torch.rand(2, 3, 4, 4)
    assert constant == Constant((1.0, 2.0, 3.0))
    assert hash(constant) == hash(Constant((1.0, 2.0, 3.0)))
    low, high = data_range_tensors((0.0, 1.0), 3)
    filled = constant(images, low, high, torch.Generator())
    assert filled.shape == images.shape
    assert filled[1, :, 2, 2].tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="3 values for images of 4 channels"):
        constant(torch.rand(2, 4, 4, 4), low, high, torch.Generator())
    assert Constant(np.float32(0.5)).value == 0.5


def margin(outputs: Tensor, target: Tensor) -> Tensor:
    return outputs.gather(1, target[:, None])[:, 0]


def brightness(model: Any, images: Tensor, target: Tensor) -> Tensor:
    return images.mean(dim=1)


HERE = __name__


def test_scores_and_heatmaps_by_their_path() -> None:
    monitor = AOPCMonitor(f"{HERE}.brightness", score=f"{HERE}.margin")
    assert monitor.heatmaps["brightness"].__name__ == "brightness"  # type: ignore[attr-defined]
    score: Any = PerturbationProtocol(4, 8, (0, 1), score=f"{HERE}.margin").score
    assert score.__name__ == "margin"
    AOPC(f"{HERE}.brightness", region_size=4, steps=8, data_range=(0, 1), score=f"{HERE}.margin")
    assert heatmaps.get("aopc_monitor.heatmaps.GradCAM") == heatmaps.GradCAM()
    described: Any = {"class_path": "aopc_monitor.heatmaps.LRPEpsilon", "init_args": {"epsilon": 1}}
    assert heatmaps.get(described) == heatmaps.LRPEpsilon(epsilon=1)
    named = heatmaps.named_heatmaps({"mine": described, "cam": "aopc_monitor.heatmaps.GradCAM"})
    assert list(named) == ["mine", "cam"]
    assert list(heatmaps.named_heatmaps(described)) == ["LRPEpsilon"]


def test_a_replacement_that_is_described() -> None:
    described: Any = {
        "class_path": "aopc_monitor.perturbation.replacements.Constant",
        "init_args": {"value": ListConfig(1.0, 2.0, 3.0)},
    }
    protocol = PerturbationProtocol(4, 8, (0, 1), replacement=described)
    assert protocol.replacement == Constant((1.0, 2.0, 3.0))
    assert AOPCMonitor(replacement=described).settings.choices.replacement


@pytest.mark.parametrize(
    "make",
    [
        lambda: AOPCMonitor(score="no_such_module.score"),
        lambda: AOPCMonitor("aopc_monitor.heatmaps.NoSuch"),
        lambda: AOPCMonitor({"class_path": "aopc_monitor.NoSuch"}),
    ],
)
def test_paths_that_lead_nowhere_are_named(make: Any) -> None:
    with pytest.raises(ValueError, match=r"(NoSuch|no_such_module\.score)' cannot be imported"):
        make()


def test_values_that_are_no_lists_stay() -> None:
    assert plain_value("uniform") == "uniform"
    assert plain_value(None) is None
    assert plain_value((1, [2.0])) == (1, [2.0])
    assert plain_value(range(3)) == range(3)
