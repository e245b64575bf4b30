"""Values that are read at places which the network chose: as if the places were constants."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor import heatmaps
from aopc_monitor.heatmaps import AttnLRP, Heatmap, LRPAlphaBeta, LRPEpsilon, LRPEpsilonPlus
from tests.heatmaps.engine.test_engine import EXACT, assert_same, images
from tests.heatmaps.networks import (
    Apply,
    assert_conserved,
    between_convolutions,
    held,
    without_biases,
)

Function = Callable[[Tensor], Tensor]
OFFSETS = nn.Conv2d(6, 18, 3, padding=1).double().requires_grad_(False)
WEIGHT = torch.randn(6, 6, 3, 3, generator=torch.Generator().manual_seed(1)).double()


def places(x: Tensor) -> Tensor:
    """A grid that the images shift and stretch."""
    by = 0.1 * x.mean((1, 2, 3)).view(-1, 1, 1)
    return F.affine_grid(torch.eye(2, 3).double() + by, [2, 6, 6, 6], align_corners=False)


def warped(x: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(x, grid, align_corners=False, padding_mode="border")


def in_boxes(x: Tensor, shift: Tensor) -> Tensor:
    ops = pytest.importorskip("torchvision").ops
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]]).double() + shift.abs().view(1, 1)
    found: Tensor = ops.roi_align(x, [boxes, boxes], 6)
    return found


def deformed(x: Tensor, offsets: Tensor, mask: Tensor | None = None) -> Tensor:
    ops = pytest.importorskip("torchvision").ops
    found: Tensor = ops.deform_conv2d(x, offsets, WEIGHT, padding=1, mask=mask)
    return found


# What reads at places of the images' own, and at the same places as constants.
READ: dict[str, tuple[Function, Function]] = {
    "grid": (lambda x: warped(x, places(x)), lambda x: warped(x, held(places(x)))),
    "boxes": (lambda x: in_boxes(x, x.mean()), lambda x: in_boxes(x, held(x.mean()))),
    "offsets": (lambda x: deformed(x, OFFSETS(x)), lambda x: deformed(x, held(OFFSETS(x)))),
    "offsets and mask": (
        lambda x: deformed(x, OFFSETS(x), OFFSETS(x)[:, :9].sigmoid()),
        lambda x: deformed(x, held(OFFSETS(x)), held(OFFSETS(x)[:, :9].sigmoid())),
    ),
}


@pytest.mark.parametrize("heatmap", [EXACT, AttnLRP(1e-12)], ids=["LRP", "AttnLRP"])
@pytest.mark.parametrize("name", READ)
def test_relevance_goes_to_the_values_that_were_read(name: str, heatmap: Heatmap) -> None:
    read, constant = (without_biases(between_convolutions(Apply(f))) for f in READ[name])
    assert_same(heatmap, read, constant)
    if heatmap is EXACT:
        assert_conserved(heatmap, read, images())


@pytest.mark.parametrize("heatmap", [LRPEpsilon(0.1), LRPEpsilonPlus(), LRPAlphaBeta()], ids=str)
def test_a_deformable_convolution_without_offsets_is_a_convolution(heatmap: Heatmap) -> None:
    norm = nn.BatchNorm2d(6).double()
    norm.running_mean.normal_()  # type: ignore[union-attr]
    deform = nn.Sequential(Apply(lambda x: deformed(x, torch.zeros(2, 18, 6, 6).double())), norm)
    plain = nn.Sequential(Apply(lambda x: F.conv2d(x, WEIGHT, padding=1)), norm)
    assert_same(heatmap, between_convolutions(deform), between_convolutions(plain))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: warped(torch.ones(2, 6, 6, 6).double(), places(x)),
        lambda x: deformed(torch.ones(2, 6, 6, 6).double(), OFFSETS(x)),
    ],
)
def test_places_alone_have_no_rule(function: Function) -> None:
    report = heatmaps.check(between_convolutions(Apply(function)), images(), EXACT)
    assert "of constants, at places made of the images" in report.line()
