"""What constants absorb is counted: the sum of relevance and of what they took is the score."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor import heatmaps
from aopc_monitor.heatmaps import LRPEpsilon
from tests.heatmaps.engine.test_engine import images
from tests.heatmaps.networks import Apply, between_convolutions, without_biases

Function = Callable[[Tensor], Tensor]
CONSTANT = torch.linspace(-0.5, 0.5, 6).double().view(6, 1, 1)
CENTRES = torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.double)


def assigned(x: Tensor) -> Tensor:
    x = x + 0
    x[:, 2] = 0.3
    x[:, 3:5] = CONSTANT[3:5]
    return x


def in_a_buffer(x: Tensor) -> Tensor:
    buffer = torch.ones(2, 6, 6, 6).double() * 0.2
    buffer[:, ::2] = x[:, ::2]
    return buffer


def distances(x: Tensor) -> Tensor:
    pixels = x.flatten(2).transpose(1, 2)
    return torch.cdist(pixels, CENTRES.expand(2, 6, 6)).transpose(1, 2).reshape(2, 6, 6, 6)


# After a ReLU, so that many inputs are exactly zero.
AT_ZERO: dict[str, Function] = {
    "exp": lambda x: torch.exp(-x),
    "cos": torch.cos,
    "softplus": F.softplus,
    "sigmoid": torch.sigmoid,
    "hard sigmoid": F.hardsigmoid,
    "erfc": torch.erfc,
    "power": lambda x: 2**x,
    "hardtanh": lambda x: F.hardtanh(x, 0.5, 2.0),
    "clamp": lambda x: x.clamp(min=0.1),
    "threshold": lambda x: F.threshold(x, 0.5, 0.2),
    "radial": lambda x: torch.exp(-(x**2)),
    "log of a sum": lambda x: torch.log(1 + torch.exp(x)),
    "in place": lambda x: (x + 0).exp_(),
}
CHOSEN: dict[str, Function] = {
    "maximum": lambda x: torch.maximum(x, CONSTANT),
    "minimum": lambda x: torch.minimum(CONSTANT, x),
    "max": lambda x: torch.max(x, CONSTANT),
    "fmax": lambda x: torch.fmax(CONSTANT.expand_as(x), x),
    "where": lambda x: torch.where(x > 0.1, x, CONSTANT),
    "fill": lambda x: x.masked_fill(x < 0, 0.4),
    "index fill": lambda x: x.index_fill(1, torch.tensor([1, 4]), 0.7),
    "scatter": lambda x: x.scatter(1, torch.zeros(2, 1, 6, 6).long(), 0.7),
    "assigned": assigned,
    "buffer": in_a_buffer,
    "right triangle": lambda x: torch.hypot(x, CONSTANT.expand_as(x)),
    "distance": distances,
    "bilinear": lambda x: F.bilinear(
        x.movedim(1, 3), x.movedim(1, 3), torch.ones(6, 6, 6).double(), CONSTANT.flatten()
    ).movedim(3, 1),
}
BEFORE = {**dict.fromkeys(AT_ZERO, nn.ReLU()), **dict.fromkeys(CHOSEN, nn.Identity())}


@pytest.mark.parametrize("name", BEFORE)
def test_relevance_and_what_is_absorbed_make_the_score(name: str) -> None:
    function = Apply({**AT_ZERO, **CHOSEN}[name])
    model = without_biases(between_convolutions(nn.Sequential(BEFORE[name], function)))
    heatmap, target = LRPEpsilon(1e-12), torch.tensor([0, 1])
    scores = model(images()).gather(1, target[:, None])[:, 0].detach()
    shares = heatmap(model, images(), target).sum((1, 2)) / scores
    report = heatmaps.check(model, images(), heatmap, target)
    assert report.absorbed is not None
    assert abs(report.absorbed) > 1e-3
    assert float(shares.mean()) + report.absorbed == pytest.approx(1, abs=1e-6)
