"""Every rule and method shared with zennit and captum, on a small network without biases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps import (
    LRP,
    DeepTaylor,
    GradientTimesInput,
    GuidedBackpropagation,
    Heatmap,
    LRPEpsilonGammaBox,
    LRPEpsilonPlus,
    Sensitivity,
    flat_rule,
    from_captum,
    from_zennit,
    gamma_rule,
    linear,
    w_square_rule,
    z_box_rule,
    z_plus_rule,
)

captum_attr = pytest.importorskip("captum.attr")
rules = pytest.importorskip("zennit.rules")

TARGET = torch.tensor([0, 3])
TINY = 1e-12


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, bias=False), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(72, 6, bias=False), nn.ReLU(), nn.Linear(6, 4, bias=False),
    ]  # fmt: skip
    return nn.Sequential(*layers).double().eval()


def images() -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()


def zennit(first: Any, convolution: Any, dense: Any) -> Heatmap:
    from zennit.composites import SpecialFirstLayerMapComposite
    from zennit.types import Activation, AvgPool, Convolution, Linear

    layer_map = [
        (Activation, rules.Pass()), (AvgPool, rules.Norm(stabilizer=TINY)),
        (Convolution, convolution), (Linear, dense),
    ]  # fmt: skip
    return from_zennit(
        SpecialFirstLayerMapComposite(layer_map=layer_map, first_map=[(Convolution, first)])
    )


def ours(**table: Any) -> LRP:
    """The same rule in convolutions and dense layers, maybe another one at the input."""
    first = {"first layer": table["first"]} if "first" in table else {}
    return LRP({"conv2d": table["conv2d"], "linear": table.get("dense", table["conv2d"]), **first})


LOW, HIGH = (torch.full((3, 1, 1), end).double() for end in (0.0, 1.0))
Z_PLUS, GAMMA = linear(z_plus_rule), linear(gamma_rule, gamma=0.25)
Z_PLUS_, GAMMA_, BOX_, EPSILON_ = (
    lambda: rules.ZPlus(stabilizer=TINY),
    lambda: rules.Gamma(gamma=0.25, stabilizer=TINY),
    lambda: rules.ZBox(low=0.0, high=1.0, stabilizer=TINY),
    lambda: rules.Epsilon(epsilon=0.01),
)
PAIRS: dict[str, tuple[Heatmap, Any]] = {
    "z+": (ours(conv2d=Z_PLUS), lambda: zennit(Z_PLUS_(), Z_PLUS_(), Z_PLUS_())),
    "gamma": (ours(conv2d=GAMMA), lambda: zennit(GAMMA_(), GAMMA_(), GAMMA_())),
    "flat": (
        ours(first=linear(flat_rule), conv2d=Z_PLUS),
        lambda: zennit(rules.Flat(stabilizer=TINY), Z_PLUS_(), Z_PLUS_()),
    ),
    "w^2": (
        ours(first=linear(w_square_rule), conv2d=Z_PLUS),
        lambda: zennit(rules.WSquare(stabilizer=TINY), Z_PLUS_(), Z_PLUS_()),
    ),
    "z-box": (
        ours(first=linear(z_box_rule, low=LOW, high=HIGH), conv2d=GAMMA),
        lambda: zennit(BOX_(), GAMMA_(), GAMMA_()),
    ),
    "deep Taylor": (DeepTaylor((0.0, 1.0)), lambda: zennit(BOX_(), Z_PLUS_(), Z_PLUS_())),
    "epsilon-plus": (LRPEpsilonPlus(), lambda: zennit(Z_PLUS_(), Z_PLUS_(), EPSILON_())),
    "epsilon-gamma-box": (
        LRPEpsilonGammaBox(data_range=(0.0, 1.0)),
        lambda: zennit(BOX_(), GAMMA_(), EPSILON_()),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_lrp_agrees_with_zennit(name: str) -> None:
    heatmap, theirs = PAIRS[name]
    relevance, expected = (method(network(), images(), TARGET) for method in (heatmap, theirs()))
    error = float((relevance - expected).norm() / expected.norm())
    assert error < 1e-8, error


@pytest.mark.parametrize(
    ("heatmap", "theirs"),
    [
        (Sensitivity("l2"), from_captum(captum_attr.Saliency, pool="l2", abs=False)),
        (Sensitivity("linf"), from_captum(captum_attr.Saliency, pool="linf")),
        (GradientTimesInput(), from_captum(captum_attr.InputXGradient)),
        (GuidedBackpropagation("l2"), from_captum(captum_attr.GuidedBackprop, pool="l2")),
        (GuidedBackpropagation("linf"), from_captum(captum_attr.GuidedBackprop, pool="linf")),
    ],
    ids=str,
)
def test_gradients_agree_with_captum(heatmap: Heatmap, theirs: Heatmap) -> None:
    relevance, expected = (
        method(network(), images() - 0.5, TARGET) for method in (heatmap, theirs)
    )
    torch.testing.assert_close(relevance, expected, rtol=1e-10, atol=1e-12)
    assert expected.std() > 0
