"""The engine against everything that a forward pass may do besides calling layers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint

from aopc_monitor.heatmaps import (
    LRP,
    AttnLRP,
    Deconvolution,
    DeepTaylor,
    GuidedBackpropagation,
    Heatmap,
    LRPAlphaBeta,
    LRPEpsilon,
    LRPEpsilonGammaBox,
    LRPEpsilonPlus,
    Sensitivity,
    linear,
    lrp_rules,
)
from aopc_monitor.heatmaps.engine.operations import FIRST_LAYER
from aopc_monitor.heatmaps.rules.linear_formulas import flat_rule, w_square_rule, z_box_rule
from tests.heatmaps.networks import Apply, assert_conserved, between_convolutions, without_biases

RANGE = (-5.0, 5.0)
METHODS: list[Heatmap] = [
    LRPEpsilon(0.01),
    LRPEpsilon(0.1, relative=True),
    LRPAlphaBeta(2, -1),
    LRPEpsilonPlus(),
    LRPEpsilonGammaBox(data_range=RANGE),
    DeepTaylor(data_range=RANGE),
    AttnLRP(),
    Deconvolution(),
    GuidedBackpropagation(),
    Sensitivity(),
]
EXACT = LRPEpsilon(1e-12)
Function = Callable[[Tensor], Tensor]


def images(count: int = 2, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, 3, size, size, dtype=torch.float64, generator=generator)


def heatmap_of(method: Heatmap, model: nn.Module, x: Tensor | None = None) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return method(model, images() if x is None else x, torch.tensor([0, 2]))


def assert_same(method: Heatmap, one: nn.Module, other: nn.Module) -> None:
    expected = heatmap_of(method, other)
    assert expected.std() > 0
    torch.testing.assert_close(heatmap_of(method, one), expected)


def one_by_one() -> nn.Conv2d:
    torch.manual_seed(1)
    return nn.Conv2d(6, 6, 1).double().requires_grad_(False)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_one_module_may_be_used_many_times(method: Heatmap) -> None:
    relu, convolution = nn.ReLU(), one_by_one()
    once = nn.Sequential(nn.ReLU(), one_by_one(), nn.ReLU(), one_by_one(), nn.ReLU())
    twice = nn.Sequential(relu, convolution, relu, convolution, relu)
    assert_same(method, between_convolutions(twice), between_convolutions(once))


class Halved(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2 + weight.flip(0) / 3


def parametrized(kind: str) -> nn.Module:
    layer = one_by_one().requires_grad_(True)
    if kind == "custom":
        return parametrize.register_parametrization(layer, "weight", Halved())
    return getattr(parametrizations, kind)(layer)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["spectral_norm", "weight_norm", "orthogonal", "custom"])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_computed_weights_are_weights(method: Heatmap, kind: str) -> None:
    layer, plain = parametrized(kind).eval(), one_by_one()
    model, expected = between_convolutions(layer), between_convolutions(plain)
    with torch.no_grad():
        plain.weight.copy_(layer.weight)
    assert_same(method, model, expected)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_compiled_models_are_explained_as_written(method: Heatmap) -> None:
    model = between_convolutions(nn.SiLU())
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        expected = compiled(images())
    assert_same(method, compiled, model)  # type: ignore[arg-type]
    with torch.no_grad():
        assert torch.equal(compiled(images()), expected)


class Checkpointed(nn.Module):
    def __init__(self, *layers: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.block = nn.Sequential(*layers)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.block, x, use_reentrant=self.reentrant)  # type: ignore[no-any-return]


def saved_layers() -> list[nn.Module]:
    gated = Apply(lambda x: x * torch.sigmoid(x.mean(dim=(2, 3), keepdim=True)))
    return [one_by_one(), nn.BatchNorm2d(6), gated, nn.LeakyReLU(), one_by_one(), nn.SiLU()]


# Memory is saved by a second forward pass, which does not know of the rules.
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("method", [METHODS[0], METHODS[2]], ids=str)
def test_checkpointed_blocks_are_refused(method: Heatmap, reentrant: bool) -> None:
    model = between_convolutions(Checkpointed(*saved_layers(), reentrant=reentrant))
    with pytest.raises(RuntimeError, match=r"activation checkpointing .* in eval mode"):
        method(model, images(), torch.tensor([0, 1]))


RESHAPES: dict[str, Function] = {
    "cat": lambda x: torch.cat([x[:, 3:], x[:, :3].tanh()], dim=1),
    "stack": lambda x: torch.stack([x, 2 * x], dim=1).sum(dim=1),
    "split": lambda x: torch.cat(x.split([1, 2, 3], dim=1)[::-1], dim=1),
    "chunk": lambda x: torch.cat(torch.chunk(x, 3, dim=3)[::-1], dim=3),
    "unbind": lambda x: torch.stack(x.unbind(2)[::-1], dim=2),
    "zero padding": lambda x: F.pad(x, (2, 1, 0, 3))[..., :6, :6],
    "reflection": lambda x: F.pad(x, (2, 2, 2, 2), mode="reflect")[..., 1:7, 3:9],
    "bilinear": lambda x: F.interpolate(x, size=(9, 9), mode="bilinear")[..., :6, 2:8],
    "nearest": lambda x: F.interpolate(x, scale_factor=2)[..., ::2, 1::2],
    "bicubic": lambda x: nn.Upsample(scale_factor=2, mode="bicubic")(x)[..., 3:9, 3:9],
    "strides": lambda x: x[:, :, ::2, ::3].repeat_interleave(2, 2).repeat(1, 1, 1, 3),
    "index": lambda x: x[:, torch.tensor([5, 0, 0, 2, 3, 4])],
    "roll": lambda x: x.roll((1, 2), dims=(2, 3)).flip(1).rot90(1, (2, 3)),
    "pixel shuffle": lambda x: F.pixel_unshuffle(F.pixel_unshuffle(x, 1), 2).repeat(1, 1, 2, 2)[
        :, ::4
    ],
    "unfold": lambda x: F.fold(F.unfold(x, 3, padding=1), (6, 6), 3, padding=1),
    "moved": lambda x: x.movedim(1, -1).contiguous().permute(0, 3, 1, 2).swapaxes(2, 3),
    "pools": lambda x: F.interpolate(F.max_pool2d(x, 2) + F.avg_pool2d(x, 2), (6, 6)),
    "lp pool": lambda x: F.interpolate(F.lp_pool2d(x, 2, 2), (6, 6)),
    "max pools": lambda x: F.interpolate(F.adaptive_max_pool2d(x, 3), (6, 6)),
    "extremes": lambda x: x.amax(1, keepdim=True) + torch.minimum(x, x.flip(1)) + x.topk(6, 1)[0],
}


@pytest.mark.parametrize("name", RESHAPES)
def test_moving_things_about_conserves_relevance(name: str) -> None:
    model = without_biases(between_convolutions(Apply(RESHAPES[name])))
    assert_conserved(EXACT, model, images())


MEAN, STD = (torch.tensor(v).double().view(3, 1, 1) for v in ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4]))
LOW, HIGH = (0 - MEAN) / STD, (1 - MEAN) / STD


def normalized_in_place(x: Tensor) -> Tensor:
    x = x.clone()
    x -= MEAN
    return x.div_(STD)


PREPROCESSING: dict[str, Function] = {
    "none": lambda x: x - 0,
    "out of place": lambda x: (x - MEAN) / STD,
    "in place": normalized_in_place,
    "on the images": lambda x: x.sub_(MEAN).div_(STD),
    "affine": lambda x: x * (1 / STD) + (-MEAN / STD),
    "channels last": lambda x: ((x - MEAN) / STD).contiguous(memory_format=torch.channels_last),
    "functions": lambda x: torch.div(torch.sub(x, MEAN), STD),
    "moved": lambda x: ((x.permute(0, 2, 3, 1) - MEAN.view(3)) / STD.view(3)).permute(0, 3, 1, 2),
    "channel by channel": lambda x: torch.stack(
        [(x[:, i] - MEAN[i]) / STD[i] for i in range(3)], dim=1
    ),
}


@pytest.mark.parametrize("name", PREPROCESSING)
@pytest.mark.parametrize(
    "rule",
    [linear(z_box_rule, low=LOW, high=HIGH), linear(flat_rule), linear(w_square_rule)],
    ids=["z box", "flat", "w square"],
)
def test_dark_pixels_keep_their_relevance_when_forward_normalizes(name: str, rule: Any) -> None:
    inner = without_biases(between_convolutions(nn.ReLU()))
    model = nn.Sequential(Apply(PREPROCESSING[name]), inner)
    x = images().sigmoid()
    x[..., 2:5, 3:6] = 0
    heatmap = LRP(rules={**lrp_rules(epsilon=1e-12), FIRST_LAYER: rule})
    relevance = assert_conserved(heatmap, model, x)
    assert bool((relevance[..., 2:5, 3:6] != 0).all())


PROBABILITIES: dict[str, Function] = {
    "softmax": lambda z: z.softmax(dim=1),
    "function": lambda z: F.softmax(z, dim=-1),
    "log": lambda z: F.log_softmax(z, 1),
    "module": nn.Softmax(dim=1),
    "reshaped": lambda z: z.softmax(1).reshape(len(z), 4, 1, 1).flatten(1),
    "maps": lambda z: torch.softmax(z[..., None, None], 1).squeeze(-1).squeeze(-1),
    "copied": lambda z: z.softmax(1).clone().contiguous().double(),
}


@pytest.mark.parametrize("name", PROBABILITIES)
@pytest.mark.parametrize("method", METHODS[:-1], ids=str)
def test_probabilities_at_the_end_explain_the_logits(method: Heatmap, name: str) -> None:
    logits = between_convolutions(nn.ReLU())
    assert_same(method, nn.Sequential(logits, Apply(PROBABILITIES[name])), logits)


class Dynamic(nn.Module):
    """Convolution with weights made of the images, as one grouped convolution over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Linear(6, 36, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weights(x.mean(dim=(2, 3))).view(-1, 6, 1, 1)
        return F.conv2d(x.reshape(1, -1, 6, 6), weight, groups=len(x)).view_as(x)


@pytest.mark.parametrize("method", [EXACT, AttnLRP(1e-12)], ids=str)
def test_dynamic_convolution_conserves_relevance(method: Heatmap) -> None:
    assert_conserved(method, without_biases(between_convolutions(Dynamic())), images())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_half_precision_models_are_computed_in_float32(method: Heatmap, dtype: torch.dtype) -> None:
    middle = nn.Sequential(nn.BatchNorm2d(6), nn.GELU())
    half = between_convolutions(middle).to(dtype)
    x = images().to(dtype)
    ours = heatmap_of(method, half, x)
    expected = heatmap_of(method, copy.deepcopy(half).float(), x.float())
    torch.testing.assert_close(ours.float(), expected)
    assert {p.dtype for p in half.parameters()} == {dtype}


ANSWERS: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda z: (z, z[:, None].exp()),
    "second": lambda z: (z[:, :, None], z),
    "list": lambda z: [z, z * 2],
    "dict": lambda z: {"features": z[..., None], "logits": z},
    "object": lambda z: SimpleNamespace(logits=z),
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_several_outputs(method: Heatmap, name: str) -> None:
    plain = between_convolutions(nn.ReLU())
    assert_same(method, nn.Sequential(plain, Apply(ANSWERS[name])), plain)


@pytest.mark.parametrize("kind", [LRPEpsilon, AttnLRP, Deconvolution, Sensitivity])
def test_output_fn_tells_which_output_is_explained(kind: Callable[..., Heatmap]) -> None:
    plain = between_convolutions(nn.ReLU())
    answers: Any = lambda z: {"heads": [z * 2, {"classes": z}]}  # noqa: E731
    deep = nn.Sequential(plain, Apply(answers))
    chosen = kind(output_fn=lambda answer: answer["heads"][1]["classes"])
    torch.testing.assert_close(heatmap_of(chosen, deep), heatmap_of(kind(), plain))
