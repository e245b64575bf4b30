"""Networks that compute the same get the same heatmap, however they are written."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor.heatmaps import (
    LRP,
    AttnLRP,
    Heatmap,
    LRPAlphaBeta,
    LRPEpsilon,
    gamma_rule,
    linear,
)
from tests.heatmaps.networks import Apply

METHODS: list[Heatmap] = [LRPEpsilon(1e-9), LRPAlphaBeta(2, -1), AttnLRP(1e-9)]
Function = Callable[[Tensor], Tensor]
TARGET = torch.tensor([1, 2])
IDENTITY = torch.eye(36).double()


def network(middle: Function) -> nn.Sequential:
    torch.manual_seed(0)
    convolution, head = nn.Conv2d(3, 6, 3, bias=False), nn.Linear(216, 4, bias=False)
    return nn.Sequential(convolution, Apply(middle), nn.Flatten(), head).double().eval()


def images() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()


def pooled(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3), keepdim=True)


def scaled_in_place(x: Tensor) -> Tensor:
    gate = torch.sigmoid(pooled(x))
    gate *= 2
    return x * gate


def widened(x: Tensor) -> Tensor:
    gate = F.interpolate(torch.sigmoid(F.avg_pool2d(x, 2)), scale_factor=2)
    return x * gate


def attended(x: Tensor) -> Tensor:
    weights = F.softmax(x, dim=1)
    return x * (weights / weights.sum(dim=1, keepdim=True))


def signal_as_bias(x: Tensor) -> Tensor:
    rows = x.reshape(-1, 36)
    return torch.addmm(rows.relu(), rows.tanh(), IDENTITY).view_as(x)


def summand(x: Tensor) -> Tensor:
    rows = x.reshape(-1, 36)
    return (rows.relu() + rows.tanh() @ IDENTITY).view_as(x)


ROOT = math.sqrt(2 / math.pi)
PAIRS: dict[str, tuple[Function, Function]] = {
    "gate scaled in place": (scaled_in_place, lambda x: x * (2 * torch.sigmoid(pooled(x)))),
    "gelu": (lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))), F.gelu),
    "gelu by tanh": (
        lambda x: 0.5 * x * (1 + torch.tanh(ROOT * (x + 0.044715 * x**3))),
        lambda x: F.gelu(x, approximate="tanh"),
    ),
    "hardswish": (lambda x: x * F.relu6(x + 3) / 6, F.hardswish),
    "silu": (lambda x: torch.sigmoid(x) * x, F.silu),
    "quotient": (
        lambda x: x * (1 / (1 + pooled(x).square())),
        lambda x: x / (1 + pooled(x).square()),
    ),
    "reciprocal root": (
        lambda x: x * torch.rsqrt(pooled(x.square()) + 1e-5),
        lambda x: x / torch.sqrt(pooled(x.square()) + 1e-5),
    ),
    "addmm": (signal_as_bias, summand),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("method", METHODS[:2], ids=str)
def test_twins(method: Heatmap, name: str) -> None:
    ours, expected = (method(network(f), images(), TARGET) for f in PAIRS[name])
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-9)
    assert expected.std() > 0


@pytest.mark.parametrize("function", [widened, attended])
def test_what_is_made_of_gates_alone_is_a_gate(function: Function) -> None:
    def held(x: Tensor) -> Tensor:
        return x * (function(x) / x).detach()

    ours, expected = (METHODS[0](network(f), images(), TARGET) for f in (function, held))
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-9)


def test_values_written_through_a_detached_alias_are_remembered() -> None:
    def written(x: Tensor) -> Tensor:
        y = F.gelu(x)
        z = y * 1.0
        x.detach().zero_()
        return z

    ours, expected = (METHODS[0](network(f), images(), TARGET) for f in (written, F.gelu))
    torch.testing.assert_close(ours, expected)


def test_parameters_that_no_module_registered_are_constants() -> None:
    class Listed(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.layers = [inner]

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.layers[0](x)
            return outputs

    for method in METHODS:
        listed = method(Listed(network(F.relu)), images(), TARGET)
        torch.testing.assert_close(listed, method(network(F.relu), images(), TARGET))


def test_batch_norm_is_not_fused_across_a_transposition() -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 6, 3).double(), nn.BatchNorm2d(6).double().eval()
    norm.weight.data = torch.arange(1.0, 7.0).double()
    head = nn.Linear(216, 4).double()
    turned, copied = (
        nn.Sequential(conv, Apply(f), norm, nn.Flatten(), head)
        for f in (lambda x: x.mT, lambda x: x.mT * 1.0)
    )
    torch.testing.assert_close(
        METHODS[0](turned, images(), TARGET), METHODS[0](copied, images(), TARGET)
    )


def test_a_softmax_that_is_written_into_is_not_the_end() -> None:
    weight = torch.tensor([1.0, 0.0, 0.5, 2.0]).double()

    def in_place(x: Tensor) -> Tensor:
        return x.softmax(dim=1).mul_(weight)

    for function in (in_place, lambda x: x.softmax(dim=1) * weight):
        model = nn.Sequential(network(F.relu), Apply(function))
        relevance = METHODS[0](model, images(), torch.tensor([1, 1]))
        assert float(relevance.abs().max()) == 0


@pytest.mark.parametrize(
    "method", [LRP({"conv2d": linear(gamma_rule, gamma=0.5)}), LRPEpsilon(0.5)], ids=str
)
def test_convolutions_of_single_images(method: Heatmap) -> None:
    torch.manual_seed(0)
    conv, head = nn.Conv2d(3, 6, 3).double(), nn.Linear(216, 4).double()
    ours, expected = (
        method(nn.Sequential(Apply(f), nn.Flatten(), head), images(), TARGET)
        for f in (lambda x: torch.stack([conv(one) for one in x]), conv)
    )
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("scale", [1e-25, 1e-38, 1e30])
def test_extreme_scales_stay_finite(scale: float) -> None:
    model = network(F.softplus).float()
    with torch.no_grad():
        model[0].weight.mul_(scale)
    for method in (LRPEpsilon(), LRPEpsilon(0.1, relative=True), LRPAlphaBeta(2, -1)):
        assert torch.isfinite(method(model, images().float(), TARGET)).all()


def test_relative_epsilon_does_not_depend_on_the_scale() -> None:
    model, method = network(F.relu).float(), LRPEpsilon(0.1, relative=True)
    tiny, plain = (method(model, images().float() * f, TARGET) / f for f in (1e-22, 1.0))
    torch.testing.assert_close(tiny, plain, rtol=1e-4, atol=1e-6)


def test_autocast_inside_forward() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU())

    def cast(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            result: Tensor = layers(x)
        return result.float()

    model = nn.Sequential(Apply(cast), nn.Flatten(), nn.Linear(96, 4))
    plain = nn.Sequential(layers, *model[1:])
    for method in METHODS[:2]:
        ours, exact = (method(m, images().float(), TARGET) for m in (model, plain))
        assert float((ours - exact).norm() / exact.norm()) < 0.3


@pytest.mark.parametrize(
    ("rules", "error", "message"),
    [
        ({"Conv2d": linear(gamma_rule)}, ValueError, "key 'Conv2d': did you mean conv2d"),
        ({"first_layer": linear(gamma_rule)}, ValueError, "did you mean first layer"),
        ({nn.Conv2d: linear(gamma_rule)}, TypeError, "plain name of a torch operation"),
        ({"conv2d": gamma_rule}, TypeError, r"wrap it, as in heatmaps.linear\(gamma_rule"),
        ({"conv2d": 0.5}, TypeError, r"rules\['conv2d'\]=0.5 is no rule"),
        ("gamma", TypeError, "is not a table"),
    ],
)
def test_mistakes_in_a_table_are_named(rules: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LRP(rules)  # type: ignore[arg-type]


def test_mistakes_in_a_rule_are_named() -> None:
    with pytest.raises(TypeError, match=r"gamma rule \(gama=0.5\): .*gama"):
        linear(gamma_rule, gama=0.5)
    with pytest.raises(TypeError, match="rule='gamma' is no function"):
        linear("gamma")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="relu is no linear operation: these are conv1d"):
        LRP({"relu": linear(gamma_rule)})(network(F.relu), images(), TARGET)
