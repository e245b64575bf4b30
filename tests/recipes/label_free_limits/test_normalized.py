from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps import named_heatmaps
from recipes.label_free_limits.normalized import NormalizedAOPC


class BrightnessOfRegions(nn.Module):
    """The first of two classes, as sure as the weighted sum of regions is large."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4))

    def forward(self, images: Tensor) -> Tensor:
        score = (nn.functional.avg_pool2d(images, 4) * self.weights).sum(dim=(1, 2, 3))
        return torch.stack([score, -score], dim=1)


def exact(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    """Of a linear score the contribution of each region is known."""
    sign = 1 - 2 * target.reshape(-1, 1, 1).float()
    weights = nn.functional.interpolate(model.weights, scale_factor=4.0)[0]
    # Regions become their mean colour: nothing is lost by what is already flat, and the mean is
    # the image's own, so that a region counts by how far it is from it.
    return sign * weights * (images.mean(dim=1) - images.mean(dim=(1, 2, 3))[:, None, None])


def blocks(count: int = 6) -> Tensor:
    """Images whose regions are flat."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 1, 4, 4, generator=generator)
    return nn.functional.interpolate(coarse, scale_factor=4.0).expand(-1, 3, -1, -1).contiguous()


def of(images: Tensor, heatmap: object, network: nn.Module) -> dict[str, float]:
    named = named_heatmaps({"map": heatmap})
    return NormalizedAOPC(images, named, (0.0, 1.0)).of(network)


def test_the_right_order_is_near_the_upper_bound_and_its_reverse_near_the_lower() -> None:
    network = BrightnessOfRegions().eval()
    found = of(blocks(), exact, network)
    assert found["normalized/map"] > 0.95
    assert found["normalized/map_srg"] > 0.9
    turned = of(blocks(), lambda *args: -exact(*args), network)
    assert turned["normalized/map"] < 0.05
    assert turned["normalized/map_srg"] == pytest.approx(-found["normalized/map_srg"], abs=1e-5)


def test_the_network_is_left_as_it_was() -> None:
    network = BrightnessOfRegions().train()
    before = network.weights.detach().clone()
    of(blocks(2), exact, network)
    assert network.training
    assert torch.equal(network.weights, before)
    assert network.weights.grad is None
