from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Subset

from aopc_monitor.monitor.dashboard.shown_images import Sample, class_names
from aopc_monitor.monitor.dashboard.shown_kinds import more_of, pixels_of
from aopc_monitor.perturbation.protocol_choices import ProtocolChoices
from tests.modules import Quadrants


def test_data_range_goes_from_dark_to_bright_in_each_channel() -> None:
    images = torch.tensor([-1.0, 0.0, 9.0]).view(1, 3, 1, 1)
    pixels = pixels_of(images, ([-1.0, -1.0, 1.0], [1.0, 1.0, 2.0]))
    assert pixels.shape == (1, 1, 1, 3)
    assert pixels.flatten().tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_numbers_of_channels_are_grey(channels: int) -> None:
    images = torch.rand(2, channels, 4, 6)
    pixels = pixels_of(images, (0.0, 1.0))
    assert pixels.shape == (2, 4, 6, 3)
    torch.testing.assert_close(pixels[..., 1], images.mean(dim=1))
    assert torch.equal(pixels[..., 0], pixels[..., 2])


def test_names_of_classes_come_from_the_module_or_the_data_set() -> None:
    class Named:
        classes = ("cat", "dog")

    data: Any = Quadrants(8)
    data.classes = ["a", "b", "c", "d"]
    loader = DataLoader(Subset(data, [1, 2]), batch_size=2)
    assert class_names(Named(), loader, 2) == ["cat", "dog"]
    assert class_names(Named(), loader, 4) == ["a", "b", "c", "d"]
    assert class_names(object(), loader, 5) is None
    assert class_names(object(), torch.rand(2, 3), 2) is None
    data.classes = 4
    assert class_names(object(), loader, 4) is None


def test_titles() -> None:
    nothing = torch.zeros(2, 1, 1, 3)
    target = torch.tensor([1, 0])
    sample = Sample(nothing, {}, target, torch.tensor([0.914, 0.5]), 2)
    assert sample.titles(None) == ["class 1\n91%", "class 0\n50%"]
    assert sample.titles(["cat", "dog"]) == ["dog\n91%", "cat\n50%"]
    assert Sample(nothing, {}, target, None, 1).titles(None) == ["", ""]


def test_borders_are_those_of_regions_of_the_users_own() -> None:
    images = torch.rand(2, 3, 8, 8)
    grid = ProtocolChoices(region_size=4).for_images(images)
    assert more_of(images, grid) == {}
    own = (torch.arange(8) // 4).expand(8, 8)
    more = more_of(images, ProtocolChoices(regions=own).for_images(images))
    assert list(more) == ["regions"]
    assert more["regions"].tolist() == own.expand(2, 8, 8).tolist()


def test_windows_of_series_and_how_many_are_perturbed() -> None:
    series = torch.rand(2, 3, 10)
    more = more_of(series, ProtocolChoices(region_size=4, steps=2).for_images(series))
    assert more["perturbed"] == 2
    assert more["regions"][0].tolist() == [-1, 0, 0, 0, 0, 1, 1, 1, 1, -1]
