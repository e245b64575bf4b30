"""Products of values that depend on the images: gates, quotients, shared products."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor.heatmaps import AttnLRP, Heatmap, LRPEpsilon
from tests.heatmaps.networks import Apply, assert_conserved, between_convolutions, without_biases

METHODS: list[Heatmap] = [LRPEpsilon(1e-12), AttnLRP(1e-12)]
Function = Callable[[Tensor], Tensor]


def images(count: int = 2) -> Tensor:
    return torch.randn(
        count, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )


def conserved(heatmap: Heatmap, middle: nn.Module) -> Tensor:
    model = without_biases(between_convolutions(middle))
    return assert_conserved(heatmap, model, images())


def assert_same(heatmap: Heatmap, one: nn.Module, other: nn.Module) -> None:
    """Two ways to write a middle give one heatmap."""
    x, target = images(), torch.tensor([0, 2])
    torch.testing.assert_close(
        heatmap(between_convolutions(one), x, target),
        heatmap(between_convolutions(other), x, target),
        rtol=1e-8,
        atol=1e-10,
    )


def pooled(x: Tensor) -> Tensor:
    """(N, C, 1, 1) of another layer than x, so that a gate of it is a signal of its own."""
    return x.square().mean(dim=(2, 3), keepdim=True)


GATES: dict[str, Function] = {
    "sigmoid of itself": lambda x: x * torch.sigmoid(x),
    "gate first": lambda x: torch.sigmoid(pooled(x)) * x,
    "method": lambda x: x.mul(pooled(x).sigmoid()),
    "in place": lambda x: x.clone().mul_(pooled(x).sigmoid()),
    "hardsigmoid": lambda x: x * F.hardsigmoid(pooled(x)),
    "hardsigmoid in place": lambda x: x * F.hardsigmoid(pooled(x) + 0, inplace=True),
    "softmax over channels": lambda x: x * F.softmax(x, dim=1),
    "expanded": lambda x: x * torch.sigmoid(pooled(x)).expand_as(x),
    "reshaped": lambda x: x * torch.sigmoid(pooled(x).flatten(1)).view(len(x), -1, 1, 1),
    "shifted": lambda x: x * (1 - torch.sigmoid(pooled(x))),
    "scaled": lambda x: x * (2 * torch.sigmoid(pooled(x)) - 0.3),
    "two gates": lambda x: x * torch.sigmoid(pooled(x)) * F.softmax(pooled(x), dim=1),
}


@pytest.mark.parametrize("name", GATES)
def test_a_gate_gives_all_relevance_to_what_it_weighs(name: str) -> None:
    function = GATES[name]
    conserved(METHODS[0], Apply(function))

    def held(x: Tensor) -> Tensor:
        """The gate as a constant, which is what the rule says: the factor is y / x."""
        return x * (function(x).detach() / x.detach())

    assert_same(METHODS[0], Apply(function), Apply(held))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * x,
        lambda x: x * pooled(x),
        lambda x: x.clone().mul_(pooled(x)),
        lambda x: torch.einsum("nchw,ndhw->ncd", x, x)[..., None].expand_as(x),
        lambda x: (x.flatten(2) @ x.flatten(2).mT)[..., None].expand_as(x),
        lambda x: torch.bmm(x.flatten(2), x.flatten(2).mT)[..., None].expand_as(x),
        lambda x: torch.addcmul(x, x, pooled(x)),
        lambda x: torch.sigmoid(x) * torch.sigmoid(pooled(x)),
        lambda x: x * torch.sigmoid(x),
        lambda x: x.sin() * x.cos() * x.exp(),
    ],
)
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_products_conserve_relevance(method: Heatmap, function: Function) -> None:
    conserved(method, Apply(function))


def test_two_signals_share_equally() -> None:
    """Half of the relevance at x * y goes to each, although y has twice the degree of x."""

    def detached(x: Tensor) -> Tensor:
        y = x.square() + 1
        return 0.5 * x * y.detach() + 0.5 * x.detach() * y

    assert_same(METHODS[0], Apply(lambda x: x * (x.square() + 1)), Apply(detached))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x / pooled(x),
        lambda x: torch.div(x, pooled(x) + 1),
        lambda x: x.clone().div_(pooled(x)),
        lambda x: F.normalize(x, dim=1),
        lambda x: x / x.norm(dim=1, keepdim=True),
        lambda x: x / x.std(dim=(1, 2, 3), keepdim=True),
        lambda x: x * torch.rsqrt(pooled(x)),
        lambda x: 1 / x,
        lambda x: 3.0 / pooled(x).expand_as(x),
        lambda x: torch.ones_like(x) / x,
        lambda x: x.reciprocal(),
        lambda x: torch.full_like(x, 2.0).div(x),
    ],
)
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_quotients_conserve_relevance(method: Heatmap, function: Function) -> None:
    conserved(method, Apply(function))


class SqueezeAndExcitation(nn.Module):
    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 3, 1), nn.LeakyReLU(), nn.Conv2d(3, 6, 1), last
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(x) * x  # type: ignore[no-any-return]


class GatedUnit(nn.Module):
    def __init__(self, glu: Function) -> None:
        super().__init__()
        self.both = nn.Conv2d(6, 12, 1)
        self.glu = glu

    def forward(self, x: Tensor) -> Tensor:
        return self.glu(self.both(x))


def glu_by_hand(x: Tensor) -> Tensor:
    signal, gate = x.chunk(2, dim=1)
    return signal * gate.sigmoid()


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Hardsigmoid(inplace=True), nn.Softmax(dim=1)])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_squeeze_and_excitation_conserves_relevance(method: Heatmap, last: nn.Module) -> None:
    if isinstance(method, AttnLRP) and isinstance(last, nn.Softmax):
        pytest.skip("its softmax has a share that belongs to no input (eq. 13)")
    conserved(method, SqueezeAndExcitation(last))


@pytest.mark.parametrize("glu", [lambda x: F.glu(x, 1), lambda x: F.glu(x, dim=1), nn.GLU(1)])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_gated_linear_units(method: Heatmap, glu: Function) -> None:
    torch.manual_seed(1)
    unit = GatedUnit(glu)
    conserved(method, unit)
    by_hand = GatedUnit(glu_by_hand)
    by_hand.load_state_dict({k: v for k, v in unit.state_dict().items() if "both" in k})
    assert_same(method, unit, by_hand)
