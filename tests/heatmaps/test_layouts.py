"""The layout in memory in which images go through a network that is explained."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps import LRPEpsilon
from tests.heatmaps.networks import Apply


def convolutions(look: Callable[[Tensor], Tensor]) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        Apply(look),
        *(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)),
        *(nn.Flatten(), nn.Linear(8 * 16, 5)),
    ).eval()


def has_channels_last(images: Tensor) -> bool:
    return images.is_contiguous(memory_format=torch.channels_last)


def test_images_go_through_convolutions_with_the_channels_last() -> None:
    images, target, layouts = torch.rand(4, 3, 8, 8), torch.arange(4), list[bool]()

    def look(x: Tensor) -> Tensor:
        layouts.append(has_channels_last(x))
        return x

    relevance = LRPEpsilon()(convolutions(look), images, target)
    assert layouts[-1]
    assert relevance.is_contiguous()
    assert not has_channels_last(images)


@pytest.mark.parametrize(
    "counts_on_layout",
    [lambda x: x.view(len(x), -1).view(x.shape), lambda x: x * (2 - has_channels_last(x))],
    ids=["raises", "answers otherwise"],
)
def test_a_network_that_counts_on_the_usual_layout_gets_it(
    counts_on_layout: Callable[[Tensor], Tensor],
) -> None:
    layouts: list[bool] = []

    def look(x: Tensor) -> Tensor:
        layouts.append(has_channels_last(x))
        return counts_on_layout(x)

    LRPEpsilon()(convolutions(look), torch.rand(4, 3, 8, 8), torch.arange(4))
    assert not layouts[-1]


def test_a_convolution_of_many_weights_is_not_laid_out_for_few_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layouts: list[bool] = []

    def look(x: Tensor) -> Tensor:
        layouts.append(has_channels_last(x))
        return x

    model, images = convolutions(look), torch.rand(8, 3, 8, 8)
    monkeypatch.setattr("aopc_monitor.network.layout.MOST_WEIGHTS", 6 * 8 * 9 / (4 * 3 * 64))
    LRPEpsilon()(model, images[:2], torch.arange(2))
    assert not layouts[-1]
    LRPEpsilon()(model, images, torch.arange(8) % 5)
    assert layouts[-1]


def test_weights_of_one_position_need_not_be_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    layouts: list[bool] = []

    def look(x: Tensor) -> Tensor:
        layouts.append(has_channels_last(x))
        return x

    model, images = convolutions(look), torch.rand(2, 3, 8, 8)
    # Four times as many weights as the others have, which are as many as there may be.
    wide = nn.Sequential(*model[:4], nn.Conv2d(6, 288, 1), nn.Conv2d(288, 6, 1), *model[4:]).eval()
    monkeypatch.setattr("aopc_monitor.network.layout.MOST_WEIGHTS", 6 * 8 * 9 / images.numel())
    LRPEpsilon()(wide, images, torch.arange(2))
    assert layouts[-1]
