"""LRP and ways to write a network, conserved relevance, operations without a rule."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor.heatmaps import (
    Deconvolution,
    GuidedBackpropagation,
    Heatmap,
    LRPAlphaBeta,
    LRPEpsilon,
)
from tests.heatmaps.networks import Apply, assert_conserved, between_convolutions

ZERO = torch.zeros((), dtype=torch.double)
LRP_METHODS: list[Heatmap] = [LRPEpsilon(0.01), LRPAlphaBeta(2, -1)]
METHODS: list[Heatmap] = [*LRP_METHODS, Deconvolution("l2")]


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
    assert_conserved(LRPEpsilon(1e-12), model, x)


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
    assert_conserved(LRPAlphaBeta(2, -1), model, torch.randn(2, 3, 8, 8, dtype=torch.float64))


@pytest.mark.parametrize(
    "kind", [nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.Mish, nn.Hardswish, nn.ELU, nn.Hardtanh]
)
@pytest.mark.parametrize("method", LRP_METHODS, ids=str)
def test_activations_in_place_are_as_those_that_are_not(
    method: Heatmap, kind: type[nn.Module]
) -> None:
    x, target = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 2])
    out_of_place, in_place = kind(), kind(inplace=True)
    torch.testing.assert_close(
        method(between_convolutions(in_place), x, target),
        method(between_convolutions(out_of_place), x, target),
    )


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * gradient


def cardinal_sine(x: Tensor) -> Tensor:
    return x.sinc()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (Double.apply, "a hidden operation .DoubleBackward"),
        (cardinal_sine, "has no rule for: sinc"),
    ],
)
@pytest.mark.parametrize("method", LRP_METHODS, ids=str)
def test_what_has_no_rule_is_named(
    method: Heatmap, function: Callable[[Tensor], Tensor], message: str
) -> None:
    model = between_convolutions(Apply(function))
    with pytest.warns(UserWarning, match=message):
        method(model, torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 2]))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: 1.0 / (x + 3),
        lambda x: x.reciprocal(),
        lambda x: x * x.sin(),
        lambda x: x * torch.sigmoid(x),
        lambda x: x.flatten(1).softmax(1).view_as(x),
        lambda x: torch.cat([x, x.flatten(1).softmax(1).view_as(x)], dim=1)[:, 3:9],
    ],
)
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_what_has_a_rule_is_not_named(
    method: Heatmap, function: Callable[[Tensor], Tensor]
) -> None:
    model = between_convolutions(Apply(function))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method(model, torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 2]))


@pytest.mark.parametrize("method", LRP_METHODS, ids=str)
def test_an_operation_is_named_only_if_relevance_passes_it(method: Heatmap) -> None:
    def looked_at(x: Tensor) -> Tensor:
        cardinal_sine(x)
        return x + 0 * cardinal_sine(x).detach()

    model = between_convolutions(Apply(looked_at))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method(model, torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 2]))


def test_torchscript_is_named() -> None:
    model = torch.jit.trace(between_convolutions(nn.ReLU()), torch.rand(1, 3, 8, 8).double())
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
        method(between_convolutions(Apply(through_a_view)), x, target),
        method(between_convolutions(nn.ReLU()), x, target),
    )


@pytest.mark.parametrize(
    "rectifier",
    [
        lambda x: torch.maximum(x, torch.zeros_like(x)),
        lambda x: torch.maximum(ZERO, x),
        lambda x: x.clamp(min=0),
        lambda x: F.threshold(x, 0, 0),
        lambda x: F.hardtanh(x, 0, 1e6),
        lambda x: F.leaky_relu(x, 0.0),
    ],
)
@pytest.mark.parametrize("method", [Deconvolution(), GuidedBackpropagation()], ids=str)
def test_a_relu_may_have_another_name(
    method: Heatmap, rectifier: Callable[[Tensor], Tensor]
) -> None:
    x, target = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 2])
    torch.testing.assert_close(
        method(between_convolutions(Apply(rectifier)), x, target),
        method(between_convolutions(nn.ReLU()), x, target),
    )


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


def test_a_bias_alone_may_be_made_of_the_images() -> None:
    """What `addmm` multiplies is then a constant, and all relevance goes on to the bias."""
    constant = torch.rand(2, 3) @ torch.rand(3, 12)
    by_addmm = Apply(lambda x: torch.addmm(x, constant[:, :3], torch.ones(3, 12)))
    by_sum = Apply(lambda x: x + constant[:, :3] @ torch.ones(3, 12))
    images, target = torch.rand(2, 3, 2, 2), torch.tensor([0, 1])
    found, expected = (
        LRPEpsilon()(nn.Sequential(nn.Flatten(), last, nn.Flatten()), images, target)
        for last in (by_addmm, by_sum)
    )
    assert torch.equal(found, expected)
    assert found.any()
