"""Products, variances, soft maxima, and operations that are short for others: explicit shares."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor.heatmaps import LRP, AttnLRP, LRPEpsilon, linear
from aopc_monitor.heatmaps.rules.linear_formulas import epsilon_rule
from tests.heatmaps.engine.test_engine import EXACT
from tests.heatmaps.engine.test_engine import images as small_images
from tests.heatmaps.networks import (
    Apply,
    assert_conserved,
    between_convolutions,
    held,
    without_biases,
)
from tests.heatmaps.rules.test_nonlinear import images, relevance

Function = Callable[[Tensor], Tensor]
Shares = Callable[[Tensor, Tensor], Tensor]
PROTOTYPE = torch.tensor([0.5, -1.0, 2.0], dtype=torch.double)


def of_products(x: Tensor, r: Tensor) -> Tensor:
    return (r / 3)[..., None].expand_as(x)


def of_running_products(x: Tensor, r: Tensor) -> Tensor:
    parts = r / torch.tensor([1, 2, 3])
    return torch.stack([parts[..., i:].sum(-1) for i in range(3)], dim=-1)


def of_variances(x: Tensor, r: Tensor) -> Tensor:
    parts = x * (x - x.mean(-1, keepdim=True))
    return parts / parts.sum(-1, keepdim=True) * r[..., None]


def of_means_too(x: Tensor, r: Tensor) -> Tensor:
    mean = r[..., 1:] * x / x.sum(-1, keepdim=True)
    return of_variances(x, r[..., 0]) + mean


def of_soft_maxima(x: Tensor, r: Tensor) -> Tensor:
    return x.softmax(-1) * r[..., None]


def of_running_soft_maxima(x: Tensor, r: Tensor) -> Tensor:
    result = torch.zeros_like(x)
    for k in range(3):
        result[..., : k + 1] += x[..., : k + 1].softmax(-1) * r[..., k, None]
    return result


def of_similarities(x: Tensor, r: Tensor) -> Tensor:
    parts = x * PROTOTYPE
    return parts / parts.sum(-1, keepdim=True) * r[..., None]


SHARES: dict[str, tuple[Function, Shares]] = {
    "prod": (lambda x: x.prod(-1), of_products),
    "prod of all": (lambda x: torch.prod(x[:, :1, :1].flatten(1), 1)[:, None],
                    lambda x, r: (r / 3)[:, :, None, None] * F.pad(torch.ones(2, 1, 1, 3),
                                                                   (0, 0, 0, 1, 0, 3))),
    "cumprod": (lambda x: x.cumprod(-1), of_running_products),
    "var": (lambda x: x.var(-1), of_variances),
    "var, biased": (lambda x: torch.var(x, dim=3, correction=0), of_variances),
    "var_mean": (lambda x: torch.stack(torch.var_mean(x, -1), dim=-1), of_means_too),
    "logsumexp": (lambda x: torch.logsumexp(x, -1), of_soft_maxima),
    "logsumexp of all": (lambda x: x.flatten(1).logsumexp(-1, keepdim=True),
                         lambda x, r: x.flatten(1).softmax(-1).view_as(x) * r[:, :, None, None]),
    "logcumsumexp": (lambda x: x.logcumsumexp(-1), of_running_soft_maxima),
    "cosine similarity": (lambda x: F.cosine_similarity(x, PROTOTYPE, dim=-1), of_similarities),
    "to a prototype": (lambda x: torch.cosine_similarity(PROTOTYPE, x, -1), of_similarities),
    "round": (lambda x: torch.round(8 * x) / 8, lambda x, r: r),
    "floor": (lambda x: (4 * x).floor(), lambda x, r: r),
}  # fmt: skip


@pytest.mark.parametrize("name", SHARES)
def test_shares_equal_explicit_ones(name: str) -> None:
    function, shares = SHARES[name]
    x = images()
    outputs = function(x)
    torch.manual_seed(0)
    last = nn.Linear(outputs[0].numel(), 3, bias=False).double()
    model = nn.Sequential(Apply(function), nn.Flatten(), last).eval()
    arriving = last.weight[0].detach().view(outputs.shape[1:]) * outputs
    exactly = LRP(rules={"linear": linear(epsilon_rule, epsilon=1e-14)})
    expected = shares(x, arriving).sum(1)
    torch.testing.assert_close(relevance(exactly, model, x), expected, rtol=1e-9, atol=1e-11)


def blended(x: Tensor) -> Tensor:
    return torch.lerp(x, x.flip(1), x.mean((2, 3), keepdim=True).sigmoid())


def solved(x: Tensor) -> Tensor:
    return torch.linalg.solve(x @ x.transpose(2, 3) + 3 * torch.eye(6).double(), x.flip(1))


def several(x: Tensor) -> Tensor:
    return torch.stack([torch.linalg.multi_dot([v[0], v[1], v[2]]) for v in x])[:, None].expand_as(
        x
    )


def crossed(x: Tensor) -> Tensor:
    return torch.linalg.cross(x[:, :3], x[:, 3:], dim=1).repeat(1, 2, 1, 1)


def similar(x: Tensor) -> Tensor:
    return x * F.cosine_similarity(x, x.flip(1), dim=1)[:, None]


CONSERVED: dict[str, Function] = {
    "cosine of two signals": similar,
    "bilinear": lambda x: F.bilinear(
        x.movedim(1, 3), x.flip(1).movedim(1, 3), torch.ones(6, 6, 6).double()
    ).movedim(3, 1),
    "lerp by a gate": blended,
    "lerp in place": lambda x: (x + 0).lerp_(x.flip(1), x.sigmoid()),
    "solve": solved,
    "several factors": several,
    "cross product": crossed,
    "vecdot": lambda x: torch.linalg.vecdot(x, x.flip(2), dim=1)[:, None].expand_as(x),
    "sparse": lambda x: torch.stack(
        [torch.sparse.mm(torch.eye(6).double().to_sparse() * 2, v.flatten(1)).view_as(v) for v in x]
    ),
    "product of rows": lambda x: x.prod(2, keepdim=True).expand_as(x),
    "variance": lambda x: x.var((2, 3), keepdim=True).expand_as(x),
    "layer norm by hand": lambda x: (
        (x - torch.var_mean(x, (1, 2, 3), keepdim=True)[1])
        * torch.rsqrt(torch.var_mean(x, (1, 2, 3), keepdim=True)[0] + 1e-6)
    ),
    "soft pooling": lambda x: x.logsumexp(1, keepdim=True).expand_as(x),
}


@pytest.mark.parametrize("heatmap", [EXACT, AttnLRP(1e-12)], ids=["LRP", "AttnLRP"])
@pytest.mark.parametrize("name", CONSERVED)
def test_relevance_is_conserved(name: str, heatmap: LRPEpsilon) -> None:
    if name.startswith("lerp") and heatmap is not EXACT:
        pytest.skip("the 1 of 1 - w absorbs relevance where nothing is a gate")
    model = without_biases(between_convolutions(Apply(CONSERVED[name])))
    assert_conserved(heatmap, model, small_images())


def test_an_inverse_weighs_what_it_multiplies() -> None:
    """As 1 / x does: B of A^-1 B gets all relevance."""
    matrix = 3 * torch.eye(6).double()

    def inverted(x: Tensor) -> Tensor:
        return torch.linalg.inv(x @ x.transpose(2, 3) + matrix) @ x

    def by_constants(x: Tensor) -> Tensor:
        return torch.linalg.inv(held(x @ x.transpose(2, 3) + matrix)) @ x

    ours, expected = (
        assert_conserved(EXACT, without_biases(between_convolutions(Apply(f))), small_images())
        for f in (inverted, by_constants)
    )
    torch.testing.assert_close(ours, expected)
