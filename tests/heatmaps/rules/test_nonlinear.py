"""Elementwise functions and normalisations against what their rules say, element by element."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor.heatmaps import LRP, AttnLRP, Heatmap, LRPAlphaBeta, LRPEpsilon, linear
from aopc_monitor.heatmaps.engine.operations import ELEMENTWISE
from aopc_monitor.heatmaps.rules.linear_formulas import epsilon_rule
from aopc_monitor.heatmaps.rules.nonlinear import local_response_norm, normalization
from tests.heatmaps.networks import Apply
from tests.heatmaps.rules.slow_rules import Dense, slow_epsilon

EPSILON = 0.2
Function = Callable[[Tensor], Tensor]
EXACTLY = {"linear": linear(epsilon_rule, epsilon=1e-14)}


def images(channels: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, channels, 2, 3, dtype=torch.float64, generator=generator)


def weighted_sum(function: Function, channels: int = 4) -> tuple[nn.Sequential, Tensor]:
    """Scores sum_j w_j f(x)_j, and w for class 0; relevance w_j f(x)_j arrives at the function."""
    torch.manual_seed(0)
    last = nn.Linear(6 * channels, 3, bias=False).double()
    shape = (channels, 2, 3)
    model = nn.Sequential(Apply(function), nn.Flatten(), last)
    return model.eval(), last.weight[0].detach().view(shape)


def relevance(heatmap: Heatmap, model: nn.Module, x: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return heatmap(model, x, torch.zeros(len(x), dtype=torch.long))


DOMAIN: dict[str, Function] = {
    **dict.fromkeys(("acos", "asin", "atanh", "erfinv"), torch.tanh),
    **dict.fromkeys(
        ("log", "log2", "log10", "log1p", "sqrt", "rsqrt", "float_power", "pow"), torch.abs
    ),
    "acosh": lambda x: x.abs().exp(),
    "logit": torch.sigmoid,
}
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "clamp": (-0.3, 0.4), "clamp_max": (0.3,), "clamp_min": (-0.3,), "float_power": (1.7,),
    "pow": (1.7,), "threshold": (0.1, -0.2),
}  # fmt: skip
NAMES = (*ELEMENTWISE, "relu", "sigmoid", "hardsigmoid")


def spellings(name: str) -> list[tuple[str, Function]]:
    """All the ways to call a function, in place or not."""
    arguments, found = ARGUMENTS.get(name, ()), []
    name = name.replace("log_sigmoid", "logsigmoid")  # its name, and what it calls itself
    for place in (F, torch, Tensor):
        for suffix in ("", "_"):
            operation = getattr(place, name + suffix, None)
            if operation is not None:
                found.append((f"{place.__name__}.{name}{suffix}", _given(operation, arguments)))
        operation = getattr(place, name, None)
        if place is F and "inplace" in getattr(operation, "__annotations__", {}):
            found.append((f"{name} in place", _given(operation, arguments, inplace=True)))
    return found


def _given(operation: Any, arguments: Sequence[Any], **options: Any) -> Function:
    def function(x: Tensor) -> Tensor:
        result: Tensor = operation(x, *arguments, **options)
        return result

    return function


CALLS = [
    *(
        pytest.param(name, function, id=label)
        for name in NAMES
        for label, function in spellings(name)
    ),
    pytest.param("abs", lambda x: abs(x), id="abs(x)"),
    pytest.param("pow", lambda x: x**2, id="x ** 2"),
    pytest.param("pow", lambda x: torch.pow(2, x), id="torch.pow(2, x)"),
    pytest.param("pow", lambda x: 2**x, id="2 ** x"),
]


def test_every_function_is_there() -> None:
    assert all(spellings(name) for name in NAMES)


@pytest.mark.parametrize(("name", "function"), CALLS)
def test_elementwise_functions_pass_relevance_on(name: str, function: Function) -> None:
    before, outputs = DOMAIN.get(name, lambda x: x + 0), []

    def recorded(x: Tensor) -> Tensor:
        result = function(before(x))
        outputs.append(result.detach().clone())
        return result

    model, weight = weighted_sum(recorded)
    x = images()
    model(x)
    expected = outputs.pop()
    for method in (LRPEpsilon(1e-13), LRPAlphaBeta(1, 0), AttnLRP(1e-13)):
        ours = relevance(method, model, x)
        assert torch.equal(outputs.pop(), expected)
        if not isinstance(method, LRPAlphaBeta):
            torch.testing.assert_close(ours, (weight * expected).sum(1), rtol=1e-9, atol=1e-12)


def slow_normalization(
    x: Tensor, groups: Tensor, eps: float, weight: Tensor, bias: Tensor, *, centred: bool = True
) -> Dense:
    """z_j = w_j (a_j - mean(a)) / std + b_j as a matrix, over the whole batch.

    Args:
        x: a.
        groups: of the shape of x, the number of the group that each element is normalised in.
        eps: added to the variance.
        weight: w, broadcast against x.
        bias: b, the same.
        centred: whether the mean is taken off.
    """
    a, number = x.flatten().tolist(), groups.flatten().tolist()
    w, b = (values.expand_as(x).flatten().tolist() for values in (weight, bias))
    matrix = [[0.0] * len(a) for _ in a]
    for j in range(len(a)):
        group = [i for i in range(len(a)) if number[i] == number[j]]
        mean = sum(a[i] for i in group) / len(group) if centred else 0.0
        std = (sum((a[i] - mean) ** 2 for i in group) / len(group) + eps) ** 0.5
        for i in group:
            own = 1.0 if i == j else 0.0
            matrix[j][i] = w[j] * (own - (1 / len(group) if centred else 0.0)) / std
    return Dense(a, matrix, b, [[True] * len(a)] * len(a))


def numbered(*shape: int) -> Tensor:
    """Numbers of as many groups, over the shape of the images."""
    numbers = torch.arange(torch.Size(shape).numel()).view(shape)
    return numbers.repeat_interleave(4 // shape[1], dim=1).expand(2, 4, 2, 3)


def parameters(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    weight, bias = (torch.randn(shape, dtype=torch.double, generator=generator) for _ in range(2))
    return weight, bias


OF_CHANNELS, OF_ROWS, OF_FEATURES = parameters(4), parameters(3), parameters(2, 3)
PLAIN = torch.ones(()).double(), torch.zeros(()).double()
PER_CHANNEL = tuple(p.view(4, 1, 1) for p in OF_CHANNELS)
TINY = torch.finfo(torch.double).eps
# What to call, the groups, eps, and weight and bias as they broadcast against (2, 4, 2, 3).
NORMALIZATIONS: dict[str, tuple[Function, Tensor, float, Any]] = {
    "layer": (lambda x: F.layer_norm(x, (3,), *OF_ROWS, 1e-2), numbered(2, 4, 2, 1), 1e-2, OF_ROWS),
    "layer of two": (lambda x: F.layer_norm(x, (2, 3), *OF_FEATURES),
                     numbered(2, 4, 1, 1), 1e-5, OF_FEATURES),
    "torch layer": (lambda x: torch.layer_norm(x, (4, 2, 3)), numbered(2, 1, 1, 1), 1e-5, PLAIN),
    "group": (lambda x: F.group_norm(x, 2, *OF_CHANNELS, eps=0.1),
              numbered(2, 2, 1, 1), 0.1, PER_CHANNEL),
    "torch group": (lambda x: torch.group_norm(x, 1, *OF_CHANNELS),
                    numbered(2, 1, 1, 1), 1e-5, PER_CHANNEL),
    "instance": (lambda x: F.instance_norm(x, None, None, *OF_CHANNELS),
                 numbered(2, 4, 1, 1), 1e-5, PER_CHANNEL),
    "batch": (lambda x: F.batch_norm(x, None, None, *OF_CHANNELS, True, 0.1, 1e-3),
              numbered(1, 4, 1, 1), 1e-3, PER_CHANNEL),
    "torch batch": (lambda x: torch.batch_norm(x, *OF_CHANNELS, None, None, True, 0.1, 1e-3, True),
                    numbered(1, 4, 1, 1), 1e-3, PER_CHANNEL),
    "batch of vectors": (lambda x: F.batch_norm(x.flatten(1), None, None, training=True)
                         .view_as(x), numbered(1, 4, 2, 3), 1e-5, PLAIN),
    "root mean square": (lambda x: F.rms_norm(x, (3,), OF_ROWS[0], eps=1e-3),
                         numbered(2, 4, 2, 1), 1e-3, (OF_ROWS[0], PLAIN[1])),
    "root mean square, no eps": (lambda x: F.rms_norm(x, (2, 3)), numbered(2, 4, 1, 1), TINY,
                                 PLAIN),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMALIZATIONS)
@pytest.mark.parametrize("epsilon", [1e-14, EPSILON])
def test_normalizations_equal_explicit_sums(name: str, epsilon: float) -> None:
    function, groups, eps, affine = NORMALIZATIONS[name]
    x = images()
    dense = slow_normalization(x, groups, eps, *affine, centred="root" not in name)
    outputs = torch.tensor(dense.outputs, dtype=torch.double).view_as(x)
    torch.testing.assert_close(outputs, function(x))
    model, weight = weighted_sum(function)
    arriving = (weight * outputs).flatten().tolist()
    expected = torch.tensor(slow_epsilon(epsilon)(dense, arriving), dtype=torch.double).view_as(x)
    rule = normalization(epsilon)
    names = ("layer_norm", "group_norm", "instance_norm", "rms_norm")
    rules: Any = {**dict.fromkeys(names, rule), "batch_norm": linear(epsilon_rule, epsilon=epsilon)}
    ours = relevance(LRP(rules={**rules, **EXACTLY}), model, x)
    torch.testing.assert_close(ours, expected.sum(1), rtol=1e-9, atol=1e-11)


def test_instance_normalization_by_running_statistics_is_affine() -> None:
    layer = nn.InstanceNorm2d(4, track_running_stats=True, affine=True).double().eval()
    nn.init.uniform_(layer.weight, 0.5, 2)
    assert layer.running_var is not None
    layer.running_var.uniform_(0.5, 2)
    model, weight = weighted_sum(layer)
    x = images()
    expected = (weight * layer(x)).sum(1).detach()
    torch.testing.assert_close(relevance(LRPEpsilon(1e-13), model, x), expected)


def slow_response_norm(x: Tensor, size: int, alpha: float, beta: float, k: float) -> list[Tensor]:
    """Contributions z_ik for one position of one image: a row for each output k (Binder 2016)."""
    rows = []
    for at in range(len(x)):
        window = [i for i in range(at - size // 2, at + (size - 1) // 2 + 1) if 0 <= i < len(x)]
        whole = k + alpha / size * sum(float(x[i]) ** 2 for i in window)
        row = torch.zeros_like(x)
        for i in window:
            row[i] = -2 * alpha / size * beta * x[at] * x[i] ** 2 / whole ** (beta + 1)
        row[at] = x[at] / (k + alpha / size * x[at] ** 2) ** beta
        rows.append(row)
    return rows


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("epsilon", [1e-14, EPSILON])
def test_local_response_normalization_equals_explicit_sums(
    size: int, flat: bool, epsilon: float
) -> None:
    settings = (size, 0.8, 0.6, 1.5)

    def function(x: Tensor) -> Tensor:
        if flat:
            return F.local_response_norm(x.flatten(2), *settings).view_as(x)
        return F.local_response_norm(x, *settings)

    x = images(7)
    model, weight = weighted_sum(function, channels=7)
    arriving = (weight * function(x)).detach()
    columns = x.flatten(2)
    arriving_columns = arriving.reshape(columns.shape)
    expected = torch.zeros_like(columns)
    for n in range(len(x)):
        for position in range(columns.shape[2]):
            rows = slow_response_norm(columns[n, :, position], *settings)
            for row, r in zip(rows, arriving_columns[n, :, position], strict=True):
                total = row.sum()
                expected[n, :, position] += row / (total + epsilon * total.sign()) * r
    rules = {"local_response_norm": local_response_norm(epsilon), **EXACTLY}
    ours = relevance(LRP(rules=rules), model, x)
    torch.testing.assert_close(ours, expected.view_as(x).sum(1), rtol=1e-9, atol=1e-11)
