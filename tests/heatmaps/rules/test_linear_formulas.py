"""The rules of linear operations against explicit sums over z_ij, alone and in whole heatmaps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor.heatmaps import LRP, linear
from aopc_monitor.heatmaps.engine.audit import Audit
from aopc_monitor.heatmaps.engine.calls import Call
from aopc_monitor.heatmaps.engine.operations import FIRST_LAYER
from aopc_monitor.heatmaps.engine.saved_values import Kept
from aopc_monitor.heatmaps.rules import linear_formulas as rules
from aopc_monitor.heatmaps.rules.linear_layer import LinearLayer, LinearMap
from aopc_monitor.heatmaps.rules.linear_operation import LINEAR
from aopc_monitor.heatmaps.rules.linear_readers import (
    convolution,
    fully_connected,
    transposed_convolution,
)
from tests.heatmaps.rules import slow_rules as slow
from tests.heatmaps.rules.slow_rules import Dense, SlowRule, dense

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
LOW, HIGH = -3.0, 4.0


@dataclass(frozen=True)
class Case:
    """One linear operation on one sample, as the rules get it and as the slow rules get it."""

    layer: LinearLayer
    dense: Dense
    relevance: Tensor

    def slowly(self, rule: SlowRule) -> Tensor:
        result = rule(self.dense, self.relevance.flatten().tolist())
        return torch.tensor(result, dtype=torch.float64).view_as(self.layer.inputs)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Fully connected, or a convolution with all its options; inputs of one sign or of both."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    call = draw(st.one_of(dense_calls(), convolution_calls()))
    a, w, b = call.input, call.weight, call.bias
    layer = LinearLayer(call, Kept(a), Kept(call.output))
    # What arrives at an output is in proportion to it, or else quotients by tiny z_j blow up.
    relevance = call.output * torch.randn_like(call.output)
    return Case(layer, dense(call.apply, a, w, b), relevance)


def drawn(draw: st.DrawFn, *shape: int) -> Tensor:
    a = torch.randn(shape, dtype=torch.float64).clamp(LOW, HIGH)
    return F.relu(a) if draw(st.booleans()) else a


@st.composite
def dense_calls(draw: st.DrawFn) -> LinearMap:
    inputs, outputs = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    weight = torch.randn(outputs, inputs, dtype=torch.float64)
    bias = draw(biases(outputs))
    return fully_connected(Call(F.linear, (drawn(draw, 1, inputs), weight, bias), {}))


@st.composite
def convolution_calls(draw: st.DrawFn) -> LinearMap:
    dims, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    inputs, outputs = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel, stride, dilation = (draw(st.integers(1, end)) for end in (3, 2, 2))
    padding = draw(st.integers(0, 1))
    least = max(dilation * (kernel - 1) + 1 - 2 * padding, 1 + 2 * padding)
    size = max(draw(st.integers(2, 3)), least)
    a = drawn(draw, 1, groups * inputs, *[size] * dims)
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    bias = draw(biases(groups * outputs))
    if draw(st.booleans()):
        weight = torch.randn(groups * inputs, outputs, *[kernel] * dims, dtype=torch.float64)
        options["output_padding"] = draw(st.integers(0, max(stride, dilation) - 1))
        call = Call(TRANSPOSED[dims - 1], (a, weight, bias), {**options, "groups": groups})
        return transposed_convolution(call)
    weight = torch.randn(groups * outputs, inputs, *[kernel] * dims, dtype=torch.float64)
    return convolution(
        Call(CONVOLUTIONS[dims - 1], (a, weight, bias), {**options, "groups": groups})
    )


def biases(outputs: int) -> st.SearchStrategy[Tensor | None]:
    return st.booleans().map(
        lambda there: torch.randn(outputs, dtype=torch.float64) if there else None
    )


def constant(layer: Dense, value: float) -> list[float]:
    return [value] * len(layer.inputs)


BOX = {"low": torch.tensor(LOW).double(), "high": torch.tensor(HIGH).double()}
RULES: dict[str, tuple[Callable[..., Tensor], dict[str, Any], SlowRule]] = {
    "epsilon": (rules.epsilon_rule, {"epsilon": 0.1}, slow.slow_epsilon(0.1)),
    "relative epsilon": (
        rules.epsilon_rule,
        {"epsilon": 0.3, "relative": True},
        slow.slow_epsilon(0.3, relative=True),
    ),
    "alpha 2": (rules.alpha_beta_rule, {}, slow.slow_alpha_beta(2, -1)),
    "alpha 3.5": (
        rules.alpha_beta_rule,
        {"alpha": 3.5, "beta": -2.5},
        slow.slow_alpha_beta(3.5, -2.5),
    ),
    "z plus": (rules.z_plus_rule, {}, slow.slow_alpha_beta(1, 0)),
    "gamma 0": (rules.gamma_rule, {"gamma": 0.0}, slow.slow_gamma(0)),
    "gamma": (rules.gamma_rule, {}, slow.slow_gamma(0.25)),
    "gamma 10": (rules.gamma_rule, {"gamma": 10.0}, slow.slow_gamma(10)),
    "flat": (rules.flat_rule, {}, slow.slow_flat),
    "w square": (rules.w_square_rule, {}, slow.slow_w_square),
    "z box": (
        rules.z_box_rule,
        BOX,
        lambda layer, r: slow.slow_z_box(constant(layer, LOW), constant(layer, HIGH))(layer, r),
    ),
}
# These give relevance to inputs that are zero, which only the first layer can hand on.
FOR_PIXELS = ("flat", "w square", "z box")
FOR_ACTIVATIONS = tuple(name for name in RULES if name not in FOR_PIXELS)


def close(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", RULES)
@given(case=cases())
@settings(max_examples=40, deadline=None)
def test_a_rule_equals_explicit_sums(name: str, case: Case) -> None:
    rule, options, slowly = RULES[name]
    close(rule(case.layer, case.relevance, **options), case.slowly(slowly))


@given(case=cases(), seed=st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_the_box_may_differ_from_pixel_to_pixel(case: Case, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a = case.layer.inputs
    low, high = (
        torch.rand(a.shape, generator=generator, dtype=torch.float64) + shift for shift in (-5, 5)
    )
    slowly = slow.slow_z_box(low.flatten().tolist(), high.flatten().tolist())
    close(rules.z_box_rule(case.layer, case.relevance, low=low, high=high), case.slowly(slowly))


@given(case=cases())
@settings(max_examples=40, deadline=None)
def test_biases_absorb_what_does_not_arrive(case: Case) -> None:
    """Rules in which the bias takes part tell how much it took."""
    audit = Audit()
    layer = replace(case.layer, audit=audit)
    lost = _reaching(case) - float(rules.gamma_rule(layer, case.relevance).sum())
    assert audit.absorbed == pytest.approx(lost, abs=1e-9)


def _reaching(case: Case) -> float:
    """Relevance of the outputs to which anything contributes."""
    parts = [any(case.dense.parts(j)) or case.dense.bias[j] for j in range(len(case.dense.bias))]
    return sum(r for r, any_ in zip(case.relevance.flatten().tolist(), parts, strict=True) if any_)


def two_layers(seed: int, *, convolutional: bool) -> tuple[nn.Sequential, Tensor]:
    """A network on (1, 2, 4, 4) and an image with pixels that are exactly zero."""
    torch.manual_seed(seed)
    first = (
        nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2)
        if convolutional
        else nn.Sequential(nn.Flatten(), nn.Linear(32, 16))
    )
    model = nn.Sequential(first, nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).double()
    image = torch.randn(1, 2, 4, 4, dtype=torch.float64).clamp(LOW, HIGH)
    image[:, :, 1:3, :2] = 0
    return model, image


def slow_heatmap(model: nn.Sequential, image: Tensor, first: SlowRule, last: SlowRule) -> Tensor:
    """Relevance of the pixels for class 1 of `two_layers`, layer by layer."""
    with torch.no_grad():
        hidden = model[:3](image)
        start = [0.0, float(model(image)[0, 1]), 0.0]
        last_layer = model[3]
        at_hidden = last(dense(F.linear, hidden, last_layer.weight, last_layer.bias), start)
        if isinstance(model[0], nn.Conv2d):
            one = model[0]

            def apply(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
                return F.conv2d(a, w, b, one.stride, one.padding, one.dilation, one.groups)

            layer = dense(apply, image, one.weight, one.bias)
        else:
            linear_layer = model[0][1]
            layer = dense(F.linear, image.flatten(1), linear_layer.weight, linear_layer.bias)
    relevance = torch.tensor(first(layer, at_hidden), dtype=torch.float64)
    return relevance.view_as(image).sum(dim=1)


@pytest.mark.parametrize("name", FOR_ACTIVATIONS)
@given(seed=st.integers(0, 2**16), convolutional=st.booleans())
@settings(max_examples=10, deadline=None)
def test_a_rule_in_all_layers_of_a_heatmap(name: str, seed: int, convolutional: bool) -> None:
    model, image = two_layers(seed, convolutional=convolutional)
    rule, options, slowly = RULES[name]
    heatmap = LRP(rules=dict.fromkeys(LINEAR, linear(rule, **options)))
    close(heatmap(model, image, torch.tensor([1])), slow_heatmap(model, image, slowly, slowly))


@pytest.mark.parametrize("name", RULES)
@given(seed=st.integers(0, 2**16), convolutional=st.booleans())
@settings(max_examples=10, deadline=None)
def test_a_rule_of_its_own_in_the_first_layer(name: str, seed: int, convolutional: bool) -> None:
    model, image = two_layers(seed, convolutional=convolutional)
    rule, options, slowly = RULES[name]
    behind = linear(rules.gamma_rule, gamma=0.5)
    heatmap = LRP(rules={**dict.fromkeys(LINEAR, behind), FIRST_LAYER: linear(rule, **options)})
    ours = heatmap(model, image, torch.tensor([1]))
    close(ours, slow_heatmap(model, image, slowly, slow.slow_gamma(0.5)))
    assume(bool(ours.any()))  # some draws have no hidden unit that is active
    dark = (image == 0).all(dim=1)
    assert bool((ours[dark] != 0).any()) == (name in FOR_PIXELS)


def retold(layer: LinearLayer, relevance: Tensor, **options: Any) -> Tensor:
    """The epsilon rule under another name, so that the engine does not take its short cut."""
    return rules.epsilon_rule(layer, relevance, **options)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("epsilon", [1e-6, 0.1, 10.0])
def test_the_short_cut_of_epsilon_is_the_rule(epsilon: float, relative: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), nn.BatchNorm2d(6), nn.LeakyReLU(),
        nn.BatchNorm2d(6), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(96, 5), nn.BatchNorm1d(5),
        nn.Tanh(), nn.Linear(5, 3),
    ).double().eval()  # fmt: skip
    with torch.no_grad():
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 2)
    images, target = torch.randn(3, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2])
    images[:, :, :2] = 0
    ours, expected = (
        LRP(rules=dict.fromkeys(LINEAR, linear(rule, epsilon=epsilon, relative=relative)))(
            model, images, target
        )
        for rule in (rules.epsilon_rule, retold)
    )
    close(ours, expected)
