"""Relevance that vanishes is told from what constants and stabilisers take, and where it went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor import heatmaps
from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules, Rule
from aopc_monitor.heatmaps.engine.calls import Call
from aopc_monitor.heatmaps.lrp import RelevancePropagation
from aopc_monitor.heatmaps.rules.table import Rules, lrp_rules

Function = Callable[[Tensor], Tensor]
IMAGES = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
KNOTS = torch.linspace(-1, 1, 6)


class Around(nn.Module):
    """Convolutions around a function from (N, 6, 8, 8) to (N, 6, ...)."""

    def __init__(self, function: Function, *, rectified: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before = nn.Conv2d(3, 6, 3, padding=1)
        self.middle = nn.ReLU() if rectified else nn.Identity()
        self.function, self.head = function, nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        features = self.function(self.middle(self.before(images)))
        outputs: Tensor = self.head(features.flatten(2).mean(dim=2))
        return outputs


def hard_mask(x: Tensor) -> Tensor:
    return x * (x > 0).float()


def covariance_pooling(x: Tensor) -> Tensor:
    rows = x.flatten(2)
    rows = rows - rows.mean(dim=2, keepdim=True)
    return rows @ rows.transpose(1, 2) / rows.shape[2]


def splines(x: Tensor) -> Tensor:
    """A layer of B-splines of degree one and a SiLU, as in a Kolmogorov-Arnold network."""
    z = x.tanh()[..., None]
    steps = ((z >= KNOTS[:-1]) & (z < KNOTS[1:])).float()
    up = (z - KNOTS[:-2]) / (KNOTS[1:-1] - KNOTS[:-2]) * steps[..., :-1]
    down = (KNOTS[2:] - z) / (KNOTS[2:] - KNOTS[1:-1]) * steps[..., 1:]
    return F.silu(x) + ((up + down) * torch.tensor([0.5, -1.0, 0.3, 0.8])).sum(dim=-1)


def fixed_point(x: Tensor) -> Tensor:
    z = torch.zeros_like(x)
    for _ in range(10):
        z = torch.tanh(0.3 * z.roll(1, dims=1) + x)
    return z


def linear_attention(x: Tensor) -> Tensor:
    rows = x.flatten(2).transpose(1, 2)
    queries, keys = F.elu(rows) + 1, F.elu(0.7 * rows) + 1
    values = keys.transpose(1, 2) @ rows
    return (queries @ values / (queries @ keys.sum(dim=1)[..., None])).transpose(1, 2)


def log_sum_exp(x: Tensor) -> Tensor:
    return x.logsumexp(dim=1, keepdim=True).expand_as(x)


def running_norm(x: Tensor) -> Tensor:
    return F.instance_norm(
        x, torch.full((6,), 0.3), torch.full((6,), 1.2), use_input_stats=False, eps=1e-3
    )


def response_norm(x: Tensor) -> Tensor:
    return F.local_response_norm(x, 3, alpha=1.0)


def layer_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[1:])


def shared_work(x: Tensor) -> Tensor:
    """Operations in place, and layers whose results are used twice."""
    y = x.clone()
    y[:, ::2] += 0.1
    y.mul_(2)
    return torch.cat([y[:, :3] * y[:, 3:].sigmoid(), x.chunk(2, dim=1)[0]], dim=1)


CONSERVING: tuple[Function, ...] = (
    hard_mask, covariance_pooling, splines, fixed_point, linear_attention, log_sum_exp,
    running_norm, response_norm, layer_norm, shared_work,
)  # fmt: skip
ACCOUNTED = ("lrp", "lrp_alpha2_beta1", "lrp_epsilon_gamma_box")


@pytest.mark.parametrize("name", ACCOUNTED)
@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("function", CONSERVING)
def test_what_pixels_constants_and_rules_have_is_the_whole_score(
    function: Function, rectified: bool, name: str
) -> None:
    heatmap = heatmaps.with_data_range(heatmaps.get(name), (-4.0, 4.0))
    report = heatmaps.check(Around(function, rectified=rectified), IMAGES, heatmap)
    assert report.leak == pytest.approx(0, abs=1e-4)
    assert report.is_fine, report.line()


@pytest.mark.parametrize("epsilon", [1e-6, 0.1, 100.0])
@pytest.mark.parametrize("relative", [False, True])
def test_stabilisers_of_any_size_are_no_loss(epsilon: float, relative: bool) -> None:
    heatmap = heatmaps.LRPEpsilon(epsilon, relative)
    model = nn.Sequential(Around(torch.tanh), nn.BatchNorm1d(4), nn.Linear(4, 4)).eval()
    report = heatmaps.check(model, IMAGES, heatmap)
    assert report.leak == pytest.approx(0, abs=1e-4)


@dataclass(frozen=True)
class WithRule(RelevancePropagation):
    """LRP with a rule of its own for one operation."""

    operation: str
    rule: Rule

    def table(self, images: Tensor) -> Rules:
        return {**lrp_rules(), self.operation: self.rule}


def plain(call: Call, mode: BackwardRules) -> Tensor:
    """The gradient, which conserves nothing where a function is not homogeneous."""
    result: Tensor = call.run()
    return result


LOSSES: tuple[tuple[str, Function], ...] = (
    ("gelu", F.gelu),
    ("softplus", F.softplus),
    ("sin", lambda x: torch.sin(3 * x)),
    ("logsumexp", log_sum_exp),
    ("matmul", covariance_pooling),
)


@pytest.mark.parametrize(("name", "function"), LOSSES)
def test_the_operation_that_loses_relevance_is_named(name: str, function: Function) -> None:
    report = heatmaps.check(Around(function), IMAGES, WithRule(name, plain))
    assert not report.is_fine
    assert report.leak is not None
    assert (
        f"{report.leak:.2g} of the score is lost in {name} ({report.leak:.2g}): " in report.line()
    )


def test_a_rule_that_is_not_known_to_conserve_is_not_judged() -> None:
    report = heatmaps.check(Around(F.gelu), IMAGES, heatmaps.LRP({"gelu": plain}))
    assert report.leak is None
    assert report.is_fine, report.line()
    assert heatmaps.check(Around(torch.tanh), IMAGES, "attnlrp").leak is None
    assert heatmaps.check(Around(torch.tanh), IMAGES, "sensitivity_l2").leak is None


def test_linear_rules_of_others_may_keep_what_they_like() -> None:
    def half(layer: object, relevance: Tensor) -> Tensor:
        return 0.5 * heatmaps.epsilon_rule(layer, relevance)  # type: ignore[arg-type]

    heatmap = heatmaps.LRP({"linear": heatmaps.linear(half)})
    report = heatmaps.check(Around(torch.tanh), IMAGES, heatmap)
    assert report.leak == pytest.approx(0, abs=1e-4)
    assert report.is_fine, report.line()


class Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        ctx.x = x  # type: ignore[attr-defined]
        return x * x

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        x: Tensor = ctx.x  # type: ignore[attr-defined]
        return 2 * gradient * x


def test_a_loss_of_what_has_no_rule_is_told_once() -> None:
    report = heatmaps.check(Around(lambda x: Squared.apply(x)), IMAGES, "lrp")
    assert report.leak is not None
    assert abs(report.leak) > 0.01
    assert len(report.problems) == 1
    assert "a hidden operation (SquaredBackward) (1 x)" in report.problems[0]


def test_scores_near_zero_are_no_false_alarm() -> None:
    model = Around(torch.tanh)
    with torch.no_grad():
        shift = model(IMAGES[:1])[0]
        model.head.bias.sub_(shift * (1 - 1e-6))
    report = heatmaps.check(model, IMAGES[:1], heatmaps.LRPEpsilon(1e-9))
    assert report.absorbed is not None
    assert abs(report.absorbed) > 1e3
    assert report.is_fine, report.line()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_rounding_of_half_precision_is_no_loss(dtype: torch.dtype) -> None:
    def coarse(x: Tensor) -> Tensor:
        halves = x.to(dtype)
        return F.softmax(F.gelu(halves), dim=1).float() * halves.float()

    for heatmap in ("lrp", heatmaps.LRPEpsilon(1e-9)):
        report = heatmaps.check(Around(coarse), IMAGES, heatmap)
        assert report.is_fine, report.line()
    kept = heatmaps.LRPEpsilon(keep_precision=True)
    report = heatmaps.check(Around(F.gelu).to(dtype), IMAGES.to(dtype), kept)
    assert report.is_fine, report.line()
