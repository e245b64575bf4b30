"""Rules of the first layer, whatever the network does to the images before that layer."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor.heatmaps import LRP, DeepTaylor, Heatmap, flat_rule, linear
from tests.heatmaps.networks import Apply

FLAT = LRP({"first layer": linear(flat_rule)})
METHODS: list[Heatmap] = [DeepTaylor((0.0, 1.0)), FLAT]
TARGET = torch.tensor([1, 2])


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 6, 3, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(216, 4, bias=False),
    ]
    return nn.Sequential(*layers).double().eval()


def images() -> Tensor:
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    x[:, :, :3] = 0
    return x


def normalized(x: Tensor) -> Tensor:
    return (x - 0.5) / 0.25


def written(x: Tensor) -> Tensor:
    x = x.clone()
    x -= 0.5
    return x.div_(0.25)


@pytest.mark.parametrize("before", [normalized, written, lambda x: 4 * x - 2, lambda x: 1 - x])
def test_the_data_range_is_that_of_the_images(before: Callable[[Tensor], Tensor]) -> None:
    inside = nn.Sequential(Apply(before), network())
    ends = [float(before(torch.tensor(end))) for end in (0.0, 1.0)]
    outside = DeepTaylor((min(ends), max(ends)))(network(), before(images()), TARGET)
    torch.testing.assert_close(METHODS[0](inside, images(), TARGET), outside)
    assert (outside[:, :3] != 0).any()


def test_batch_normalisation_of_the_images_is_not_the_first_layer() -> None:
    norm = nn.BatchNorm2d(3).double().eval()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.fill_(0.5)
    norm.running_var.fill_(0.0625 - norm.eps)
    for method in METHODS:
        ours = method(nn.Sequential(norm, network()), images(), TARGET)
        by_hand = method(nn.Sequential(Apply(normalized), network()), images(), TARGET)
        torch.testing.assert_close(ours, by_hand)


BEFORE: list[Callable[[Tensor], Tensor]] = [
    normalized,
    lambda x: x.flip(3).transpose(2, 3),
    lambda x: F.pad(x, (1, 1, 1, 1))[..., 1:9, 1:9],
    lambda x: F.interpolate(F.interpolate(x, scale_factor=2, mode="bilinear"), (8, 8)),
    lambda x: torch.cat([x[:, 1:], x[:, :1]], dim=1),
    lambda x: x.mT.mT,
]


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_zero_pixels_get_relevance(method: Heatmap, before: Callable[[Tensor], Tensor]) -> None:
    model, x = nn.Sequential(Apply(before), network()), images()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        relevance = method(model, x, TARGET)
    plain = method(network(), before(x), TARGET)
    if method is FLAT:  # no data range, which padding and interpolation would change
        torch.testing.assert_close(relevance.sum(dim=(1, 2)), plain.sum(dim=(1, 2)))
    assert (relevance[:, 2] != 0).any()  # a row of zeros, next to others


def test_two_branches_that_both_read_the_images() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = network(), network()

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.one(x) + self.other(1 - x)
            return outputs

    parts = [METHODS[0](network(), x, TARGET) for x in (images(), 1 - images())]
    torch.testing.assert_close(METHODS[0](Two(), images(), TARGET), parts[0] + parts[1])


def test_a_first_layer_that_is_never_met_is_named() -> None:
    def drawn(x: Tensor) -> Tensor:
        canvas = torch.zeros_like(x)
        canvas[:] = x
        return canvas

    model = nn.Sequential(Apply(drawn), network())
    with pytest.warns(UserWarning, match="no linear operation works on the images"):
        METHODS[0](model, images(), TARGET)
