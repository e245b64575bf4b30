"""Ranges that are read off images, and what is doubted of them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from aopc_monitor import AOPC
from aopc_monitor.monitor.dashboard.shown_kinds import pixels_of
from aopc_monitor.perturbation.data_range import (
    data_range_tensors,
    normalized_data_range,
    observed_data_range,
    range_doubts,
)
from tests.modules import small_network

IMAGES = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def changed(change: Any) -> Tensor:
    images = IMAGES.clone()
    change(images)
    return images


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[3, :, :3, :3].fill_(-9999.0),
        lambda x: x[:, 1, :, :4].fill_(-9999.0),  # a quarter of the pixels
        lambda x: x[0, 2, 0, 0].fill_(65535.0),
        lambda x: x[0, 0, :2, 0].copy_(torch.tensor([300.0, 410.0])),
    ],
)
def test_a_range_of_few_pixels_is_doubted(change: Any) -> None:
    (doubt, *_) = range_doubts(changed(change))
    assert "nearly all of its pixels from 0.0" in doubt
    assert "Give data_range=" in doubt


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        (IMAGES > 0.5).float(),
        changed(lambda x: x[:, :, :12].zero_()),  # an empty background
        torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(0)),
        IMAGES.pow(4),
        changed(lambda x: x[:, 1].zero_()),
    ],
)
def test_a_range_of_all_pixels_is_not(images: Tensor) -> None:
    assert range_doubts(images) == []


def test_a_constant_channel_has_its_value_for_a_range() -> None:
    images = changed(lambda x: x[:, 1].fill_(0.25))
    low, high = observed_data_range(images)
    assert low[1] == high[1] == 0.25
    with pytest.raises(ValueError, match="all channels are constant"):
        observed_data_range(images[:, 1:2])
    for wrong in ((0.0, 0.0), ([0.0, 1.0], [1.0, 0.5]), (1.0, 0.0)):
        with pytest.raises(ValueError, match="needs finite numbers with low < high"):
            data_range_tensors(wrong)


@pytest.mark.parametrize("replacement", ["uniform", "blur", "mean", "constant", "noisy_linear"])
@pytest.mark.parametrize("heatmap", ["lrp", "deep_taylor"])
def test_a_dead_band_is_measured_with(replacement: str, heatmap: str) -> None:
    images = changed(lambda x: x[:, 1].zero_())
    metric = AOPC(
        heatmap,
        region_size=4,
        steps=4,
        data_range=([0.0, 0.0, 0.0], [1.0, 0.0, 1.0]),
        replacement=replacement,
    )
    metric.update(small_network().eval(), images)
    assert torch.isfinite(metric.compute())
    shown = pixels_of(images, ([0.0, 0.0, 0.0], [1.0, 0.0, 1.0]))
    assert torch.equal(shown[..., 1], torch.zeros(16, 16, 16))


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([0.5], [0.0], r"std=\[0.0\] must be positive"),
        ([0.5], [float("nan")], "must be positive"),
        ([0.5, 0.5], [0.5], "mean has 2 numbers and std 1"),
    ],
)
def test_what_is_no_normalization_is_named(
    mean: list[float], std: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        normalized_data_range(mean, std)


def test_a_pair_for_each_channel_is_turned_around() -> None:
    turned = re.escape("not a pair (low, high): give the lows of all channels and then the highs, ")
    with pytest.raises(ValueError, match=turned + re.escape("([0, 0, 0], [1, 1, 2])")):
        data_range_tensors([(0, 1), (0, 1), (0, 2)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"not a pair \(low, high\)$"):
        data_range_tensors([0, 1, 2])  # type: ignore[arg-type]
