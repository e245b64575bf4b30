"""An activation behind a layer with a stabiliser: the relevance of the two one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aopc_monitor.heatmaps import AttnLRP, LRPEpsilon
from aopc_monitor.heatmaps.rules import nonlinear
from aopc_monitor.network.layout import suits_channels_last
from tests.heatmaps.rules.test_rectifier import TWINS, Block, Doubled

Way = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Way] = {
    "relu6": lambda z: F.relu6(4 * z),
    "relu6 in place": nn.ReLU6(inplace=True),
    "hardtanh": nn.Hardtanh(-0.5, 0.25),
    "hardtanh in place": nn.Hardtanh(0.0, 0.5, inplace=True),
    "hardtanh away from zero": nn.Hardtanh(0.1, 0.5),
    "gelu": nn.GELU(),
    "silu": nn.SiLU(),
    "silu in place": nn.SiLU(inplace=True),
    "hardswish in place": nn.Hardswish(inplace=True),
    "mish": nn.Mish(),
    "elu": nn.ELU(),
    "elu in place": nn.ELU(inplace=True),
    "tanh in place": torch.tanh_,
    "used before": lambda z: z * 0.5 + F.silu(z, inplace=True),
    "used afterwards": lambda z: F.gelu(z) + z,
    "gate written by hand": lambda z: z.clone() * F.relu6(z + 3, inplace=True) / 6,
    "gate in place": lambda z: torch.tanh_(z * 1) * z.sum(dim=1, keepdim=True),
    "sigmoid": torch.sigmoid,
    "doubled out of sight": lambda z: Doubled.apply(z) + F.hardtanh(z, 0.0, 0.5, inplace=True),
}


def apart(call: Any, mode: Any) -> None:
    """There is no layer before, as far as an activation knows."""


@pytest.mark.filterwarnings("ignore:.*has no rule for")
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("heatmap", [LRPEpsilon(), AttnLRP(epsilon=0.1)], ids=["lrp", "attnlrp"])
def test_relevance_is_that_of_both_by_themselves(
    heatmap: Any, name: str, norm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network, images = Block(ACTIVATIONS[name], norm).eval(), torch.randn(2, 3, 6, 6)
    found = heatmap(network, images)
    monkeypatch.setattr(nonlinear, "with_layer_before", apart)
    expected = heatmap(network, images)
    largest = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * largest)
    assert largest > 0


def written(z: Tensor) -> Tensor:
    return F.silu(z, inplace=True)


def in_place_of_relu(way: Way) -> Way:
    """The same with SiLU in place wherever there is a ReLU in place."""

    def changed(z: Tensor) -> Tensor:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Tensor, "relu_", written)
            return way(z)

    return changed


@pytest.mark.filterwarnings("ignore:.*has no rule for")
@pytest.mark.parametrize("name", ["clone", "by name", "iterated", "view", "slice"])
def test_in_place_outputs_are_those_of_the_network(name: str) -> None:
    torch.manual_seed(0)
    network = Block(in_place_of_relu(TWINS[name][0]), norm=False).eval()
    images = torch.randn(2, 3, 6, 6)
    if suits_channels_last(network, images, is_half=False):  # as it is asked then
        images = images.to(memory_format=torch.channels_last)
    with torch.no_grad():
        plain = network(images)
    seen: list[Tensor] = []
    network.register_forward_hook(lambda _, __, scores: seen.append(scores.detach().clone()))
    relevance = LRPEpsilon()(network, images, torch.tensor([0, 1]))
    assert torch.equal(seen[0], plain)
    assert relevance.isfinite().all()
