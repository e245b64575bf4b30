"""The rules of LRP against explicit sums over z_ij; the engine against ways to write a network."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor.heatmaps import Deconvolution, Heatmap, LRPAlphaBeta, LRPEpsilon

METHODS: list[Heatmap] = [LRPEpsilon(0.01), LRPAlphaBeta(2, -1), Deconvolution("l2")]


def epsilon_by_sums(a: Tensor, w: Tensor, b: Tensor, relevance: Tensor, epsilon: float) -> Tensor:
    """Eq. 7 for one layer: a (I,), w (J, I), b (J,), relevance (J,) -> (I,)."""
    result = torch.zeros_like(a)
    for j in range(len(relevance)):
        z = [float(a[i] * w[j, i]) for i in range(len(a))]
        total = sum(z) + float(b[j])
        for i in range(len(a)):
            sign = 1 if total >= 0 else -1
            result[i] += z[i] / (total + epsilon * sign) * relevance[j]
    return result


def alpha_beta_by_sums(a: Tensor, w: Tensor, relevance: Tensor, alpha: float) -> Tensor:
    """Eq. 8 for one layer, beta = 1 - alpha."""
    result = torch.zeros_like(a)
    for j in range(len(relevance)):
        z = [float(a[i] * w[j, i]) for i in range(len(a))]
        up, down = sum(v for v in z if v > 0), sum(v for v in z if v < 0)
        for i in range(len(a)):
            if z[i] > 0:
                result[i] += alpha * z[i] / up * relevance[j]
            elif z[i] < 0:
                result[i] += (1 - alpha) * z[i] / down * relevance[j]
    return result


def two_layers(seed: int, size: int) -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(size * size, 5), nn.ReLU(), nn.Linear(5, 3)
    ).double()
    return model, torch.randn(1, 1, size, size, dtype=torch.float64)


def relevance_by_sums(
    model: nn.Sequential, x: Tensor, rule: Callable[[Tensor, nn.Linear, Tensor], Tensor]
) -> Tensor:
    """Relevance of the pixels for class 1 of `two_layers`, layer by layer."""
    first, last = model[1], model[3]
    with torch.no_grad():
        hidden = F.relu(first(x.flatten(1)))[0]
        start = torch.zeros(3, dtype=torch.float64)
        start[1] = last(hidden)[1]
        return rule(x.flatten(), first, rule(hidden, last, start))


@given(seed=st.integers(0, 10_000), size=st.integers(1, 4), epsilon=st.floats(1e-6, 10))
@settings(max_examples=25, deadline=None)
def test_epsilon_rule_equals_explicit_sums(seed: int, size: int, epsilon: float) -> None:
    model, x = two_layers(seed, size)
    expected = relevance_by_sums(
        model, x, lambda a, layer, r: epsilon_by_sums(a, layer.weight, layer.bias, r, epsilon)
    )
    ours = LRPEpsilon(epsilon)(model, x, torch.tensor([1])).flatten()
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


@given(seed=st.integers(0, 10_000), size=st.integers(1, 4), alpha=st.sampled_from([1.0, 2.0, 3.5]))
@settings(max_examples=25, deadline=None)
def test_alpha_beta_rule_equals_explicit_sums(seed: int, size: int, alpha: float) -> None:
    model, x = two_layers(seed, size)
    expected = relevance_by_sums(
        model, x, lambda a, layer, r: alpha_beta_by_sums(a, layer.weight, r, alpha)
    )
    ours = LRPAlphaBeta(alpha, 1 - alpha)(model, x, torch.tensor([1])).flatten()
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


class Residual(nn.Module):
    """The same network, written in several ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=way == "in place")
        self.last = nn.Linear(6 * 4 * 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self, self.way.replace(" ", "_"))(x)  # type: ignore[no-any-return]

    def modules_(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.first(x)))
        x = self.relu(self.second(x) + x)
        x = F.max_pool2d(x, 2)
        return self.last(F.adaptive_avg_pool2d(x, 4).flatten(1))  # type: ignore[no-any-return]

    def in_place(self, x: Tensor) -> Tensor:
        F.relu(input=x.clone(), inplace=True)
        x = self.relu(self.norm(self.first(x)))
        y = self.second(x)
        y += x
        torch.relu_(y)
        y = torch.max_pool2d(y, 2)
        return self.last(torch.flatten(nn.AdaptiveAvgPool2d(4)(y), 1))  # type: ignore[no-any-return]

    def functions(self, x: Tensor) -> Tensor:
        norm = self.norm
        x = F.conv2d(x, self.first.weight, bias=self.first.bias, padding=1)
        x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        x = x.relu()
        x = torch.add(torch.conv2d(x, self.second.weight, self.second.bias, padding=1), x).relu_()
        x = torch.max_pool2d(x, kernel_size=2)
        x = x.reshape(len(x), -1)
        return torch.addmm(self.last.bias, x, self.last.weight.t())


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("way", ["in place", "functions"])
def test_the_way_of_writing_a_network_does_not_matter(method: Heatmap, way: str) -> None:
    torch.manual_seed(0)
    plain, other = Residual("modules_").double().eval(), Residual(way).double().eval()
    with torch.no_grad():
        for buffer in (plain.norm.running_mean, plain.norm.running_var):
            assert buffer is not None
            buffer.uniform_(0.5, 1.5)
    other.load_state_dict(plain.state_dict())
    x, target = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(method(other, x, target), method(plain, x, target))


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_forward_under_the_engine_is_bit_identical(method: Heatmap) -> None:
    seen: list[Tensor] = []

    class Recording(Residual):
        def forward(self, x: Tensor) -> Tensor:
            outputs = super().forward(x)
            seen.append(outputs.detach().clone())
            return outputs

    model, x = Recording("in place").eval(), torch.randn(2, 3, 8, 8)
    method(model, x, torch.tensor([0, 1]))
    with torch.no_grad():
        model(x)
    assert torch.equal(seen[0], seen[1])


def test_batch_norm_is_fused_only_with_what_feeds_it() -> None:
    """Pre-activation: the convolution feeds both the normalisation and the shortcut."""

    class PreActivation(nn.Module):
        def __init__(self, merged: bool) -> None:
            super().__init__()
            self.merged = merged
            self.stem = nn.Conv2d(3, 4, 1, bias=False)
            self.norm = nn.BatchNorm2d(4)
            self.branch = nn.Conv2d(4, 4, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            stem = self.stem(x)
            if self.merged:
                scale = self.norm.weight / (self.norm.running_var + self.norm.eps).sqrt()  # type: ignore[operator]
                shift = self.norm.bias - self.norm.running_mean * scale  # type: ignore[operator]
                normed = F.conv2d(x, self.stem.weight * scale.view(-1, 1, 1, 1), shift)
            else:
                normed = self.norm(stem)
            return (stem + self.branch(F.relu(normed))).mean(dim=(2, 3))  # type: ignore[no-any-return]

    torch.manual_seed(1)
    model = PreActivation(merged=False).double().eval()
    with torch.no_grad():
        model.norm.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
        model.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    by_hand = PreActivation(merged=True).double().eval()
    by_hand.load_state_dict(model.state_dict())
    x, target = torch.randn(2, 3, 5, 5, dtype=torch.float64), torch.tensor([0, 3])
    for method in METHODS:
        torch.testing.assert_close(method(model, x, target), method(by_hand, x, target))


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)],
        lambda: [nn.ConvTranspose2d(3, 4, 3, groups=1, bias=False), nn.BatchNorm2d(4)],
        lambda: [nn.Conv2d(3, 6, 3, groups=3, bias=False), nn.BatchNorm2d(6)],
        lambda: [nn.ConvTranspose2d(3, 6, 3, groups=3, bias=False), nn.BatchNorm2d(6)],
        lambda: [nn.BatchNorm2d(3)],
        lambda: [nn.AvgPool2d(2), nn.Conv2d(3, 4, 3, bias=False), nn.LeakyReLU()],
        lambda: [nn.Conv2d(3, 4, 3, bias=False), nn.ReLU6(), nn.Dropout(), nn.MaxPool2d(2)],
    ],
)
def test_relevance_is_conserved_without_biases(layers: Callable[[], list[nn.Module]]) -> None:
    torch.manual_seed(0)
    body = nn.Sequential(*layers()).double().eval()
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    features = body(x).flatten(1).shape[1]
    model = nn.Sequential(body, nn.Flatten(), nn.Linear(features, 4, bias=False).double())
    target = torch.tensor([0, 1])
    scores = model(x).gather(1, target[:, None])[:, 0].detach()
    relevance = LRPEpsilon(1e-12)(model, x, target).sum(dim=(1, 2))
    torch.testing.assert_close(relevance, scores, rtol=1e-6, atol=0)


def test_alpha_beta_conserves_relevance_also_with_biases() -> None:
    """As long as every neuron has inputs of both signs, which eq. 8 takes for granted."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 8, 5), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Flatten(), nn.Linear(128, 4),
    ).double().eval()  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x, target = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1])
    scores = model(x).gather(1, target[:, None])[:, 0].detach()
    relevance = LRPAlphaBeta(2, -1)(model, x, target).sum(dim=(1, 2))
    torch.testing.assert_close(relevance, scores, rtol=1e-9, atol=0)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_operations_without_a_rule_are_named(method: Heatmap) -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.convolution(x)
            return (y * y.sin()).mean(dim=(2, 3))  # type: ignore[no-any-return]

    with pytest.warns(UserWarning, match="has no rule for: mul of two values.*, sin"):
        method(Gated(), torch.rand(2, 3, 8, 8), torch.tensor([0, 1]))


def activation_network(activation: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return (
        nn.Sequential(
            nn.Conv2d(3, 6, 3), activation, nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(64, 4)
        )
        .double()
        .eval()
    )


@pytest.mark.parametrize(
    "kind", [nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.Mish, nn.Hardswish, nn.ELU, nn.Hardtanh]
)
@pytest.mark.parametrize("method", METHODS[:2], ids=str)
def test_activations_in_place_are_as_those_that_are_not(
    method: Heatmap, kind: type[nn.Module]
) -> None:
    x, target = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 2])
    out_of_place, in_place = kind(), kind(inplace=True)
    if kind is nn.LeakyReLU:
        assert in_place.negative_slope == out_of_place.negative_slope
    torch.testing.assert_close(
        method(activation_network(in_place), x, target),
        method(activation_network(out_of_place), x, target),
    )


@pytest.mark.parametrize("kind", [nn.SiLU, nn.Tanh, nn.GELU, nn.Hardtanh, nn.ReLU6])
def test_activations_pass_relevance_on(kind: type[nn.Module]) -> None:
    model = activation_network(kind())
    for layer in (model[0], model[2], model[4]):
        nn.init.zeros_(layer.bias)
    x, target = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 2])
    scores = model(x).gather(1, target[:, None])[:, 0].detach()
    relevance = LRPEpsilon(1e-12)(model, x, target).sum(dim=(1, 2))
    torch.testing.assert_close(relevance, scores, rtol=1e-6, atol=0)


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * gradient


class Apply(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (Double.apply, "a hidden operation .DoubleBackward"),
        (lambda x: 1.0 / (x + 3), "rdiv"),
        (lambda x: x.flatten(1).softmax(1).view_as(x), "softmax before the end of the network"),
        (
            lambda x: torch.cat([x, x.flatten(1).softmax(1).view_as(x)], dim=1)[:, 3:9],
            "softmax before the end of the network",
        ),
        (lambda x: x * torch.sigmoid(x), "mul of two values"),
        (lambda x: x.reciprocal(), "reciprocal"),
    ],
)
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_what_has_no_rule_is_named(
    method: Heatmap, function: Callable[[Tensor], Tensor], message: str
) -> None:
    model = activation_network(Apply(function))
    with pytest.warns(UserWarning, match=message):
        method(model, torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 2]))


def test_torchscript_is_named() -> None:
    model = torch.jit.trace(activation_network(nn.ReLU()), torch.rand(1, 3, 8, 8).double())
    with pytest.warns(UserWarning, match="a hidden operation"):
        LRPEpsilon()(model, torch.rand(2, 3, 8, 8).double(), torch.tensor([0, 2]))


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_writing_through_a_view(method: Heatmap) -> None:
    def through_a_view(x: Tensor) -> Tensor:
        buffer = torch.zeros_like(x)
        buffer.narrow(1, 0, 6).copy_(torch.relu(x))
        return buffer

    x, target = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 2])
    torch.testing.assert_close(
        method(activation_network(Apply(through_a_view)), x, target),
        method(activation_network(nn.ReLU()), x, target),
    )


def test_deconvolution_knows_relu6_and_names_a_relu_by_maximum() -> None:
    x, target = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Deconvolution()(activation_network(nn.ReLU6()), x, target)
    by_maximum = Apply(lambda x: torch.maximum(x, torch.zeros_like(x)))
    with pytest.warns(UserWarning, match="maximum of two tensors"):
        Deconvolution()(activation_network(by_maximum), x, target)


def test_a_copy_between_convolution_and_batch_norm_does_not_matter() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4)]
    nn.init.uniform_(layers[1].bias)
    copy = Apply(lambda x: x.contiguous(memory_format=torch.channels_last))
    plain = nn.Sequential(*layers).double().eval()
    copied = nn.Sequential(layers[0], copy, *layers[1:]).double().eval()
    x, target = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 2])
    torch.testing.assert_close(
        LRPEpsilon(0.5)(copied, x, target), LRPEpsilon(0.5)(plain, x, target)
    )
