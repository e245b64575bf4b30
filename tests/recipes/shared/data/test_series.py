from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
import torch

from recipes.shared.data.labelled_images import TrainingPlan
from recipes.shared.data.series import SERIES_SETS, SeriesSet, assemble_series, load_series

TWO = SeriesSet("Two", "none", {"10": "ten", "2": "two"}, TrainingPlan(1, 2, 1e-3))


def test_channels_are_normalised_by_the_training_series() -> None:
    generator = np.random.default_rng(0)
    train = generator.normal([[[5.0], [-2.0]]], [[[2.0], [0.1]]], (20, 2, 30))
    moved = train[:3] + np.array([[2.0], [0.0]])
    data = assemble_series(TWO, (train, ["2"] * 20), (moved, ["10"] * 3))
    assert data.train.tensors.mean(dim=(0, 2)).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert data.train.tensors.std(dim=(0, 2)).tolist() == pytest.approx([1.0, 1.0], abs=1e-3)
    shift = data.test.tensors.double() - data.train.tensors[:3].double()
    assert shift[:, 0].mean() == pytest.approx(2.0 / train[:, 0].std(), rel=1e-3)
    assert shift[:, 1].abs().max() < 1e-5


def test_labels_get_the_order_of_the_classes() -> None:
    series = np.random.default_rng(0).random((3, 1, 8))
    data = assemble_series(TWO, (series, ["2", "10", "2"]), (series, ["10", "10", "2"]))
    assert data.train.labels.tolist() == [1, 0, 1]
    assert data.test.labels.tolist() == [0, 0, 1]
    assert data.classes == ("ten", "two")


def test_an_unknown_set_is_named() -> None:
    with pytest.raises(ValueError, match=r"one of gun_point, .* got 'ecg'"):
        load_series("ecg")


def test_without_aeon_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("aeon"):
            raise ModuleNotFoundError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match='extra "series"'):
        load_series("gun_point")


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "shape"),
    [("gun_point", (1, 150)), ("italy_power_demand", (1, 24)), ("basic_motions", (6, 100))],
)
def test_the_series_of_the_wheel(name: str, shape: tuple[int, ...]) -> None:
    pytest.importorskip("aeon")
    data = load_series(name)
    assert data.train.tensors.shape[1:] == data.test.tensors.shape[1:] == shape
    assert torch.isfinite(data.test.tensors).all()
    assert data.train.labels.unique().tolist() == list(range(len(SERIES_SETS[name].classes)))
