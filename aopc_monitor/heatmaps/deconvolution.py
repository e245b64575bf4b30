"""Deconvolution and guided backpropagation: the gradient, with rectifiers that treat signals.

Zeiler and Fergus knew only the ReLU. Smooth rectifiers (GELU, SiLU, Hardswish, ...) are treated as
one; everything else is passed by its own gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from aopc_monitor.heatmaps.base import NormHeatmap
from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules, Rule
from aopc_monitor.heatmaps.engine.calls import Call
from aopc_monitor.heatmaps.engine.operations import RECTIFIERS
from aopc_monitor.heatmaps.engine.substitution import substitute
from aopc_monitor.heatmaps.rules.nonlinear import softmax_gradient
from aopc_monitor.heatmaps.rules.recurrent import recurrent, recurrent_cell


def rectify_signal(call: Call, mode: BackwardRules) -> Tensor:
    """Rectifier: the backward signal itself passes through a ReLU (section II-B, point 2).

    R_i = max(0, R_j), whatever the activation was.
    """
    return substitute(call.first, call.run(), F.relu)


def rectify_signal_leakily(call: Call, mode: BackwardRules) -> Tensor:
    """Leaky ReLU: the backward signal passes through the same leaky ReLU."""
    slope = call.argument(1, "negative_slope", 0.01)
    return substitute(call.first, call.run(), lambda signal: F.leaky_relu(signal, slope))


def guide(call: Call, mode: BackwardRules) -> Tensor:
    """Rectifier: the gradient of the positive part of the signal (Springenberg et al. 2015).

    R_i = [a_i > 0] max(0, R_j) for a ReLU, and h'(a_i) max(0, R_j) for a smooth rectifier h.
    """
    result: Tensor = call.run()
    return substitute(result, result, F.relu)


def if_rectifier(rule: Rule) -> Rule:
    """Use a rule where a function is a ReLU, by its arguments: hardtanh, clamp, maximum."""

    def apply(call: Call, mode: BackwardRules) -> Any:
        if not _is_rectifier(call):
            return call.run()
        if not mode.is_signal(call.first):  # maximum(0, x)
            call = Call(call.operation, (call.argument(1, "other"), call.first), {})
        return rule(call, mode)

    apply.label = rule.__name__  # type: ignore[attr-defined]
    return apply


def _is_rectifier(call: Call) -> bool:
    if call.name == "hardtanh":
        return bool(call.argument(1, "min_val", -1.0) == 0)
    if call.name in ("clamp", "clamp_min"):
        lowest = call.argument(1, "min")
        return lowest is not None and not isinstance(lowest, Tensor) and lowest == 0
    other = call.argument(1, "other")
    if isinstance(other, Tensor) and other.requires_grad:
        other = call.first
    return isinstance(other, Tensor) and not other.requires_grad and not bool(other.any())


def rectifier_rules(rule: Rule, leaky_rule: Rule) -> dict[str, Rule]:
    """The table that gives all rectifiers a rule."""
    return {
        **dict.fromkeys(("relu", *RECTIFIERS), rule),
        **dict.fromkeys(("hardtanh", "clamp", "clamp_min", "max", "maximum"), if_rectifier(rule)),
        **dict.fromkeys(("leaky_relu", "prelu", "rrelu"), leaky_rule),
        **dict.fromkeys(("softmax", "log_softmax"), softmax_gradient),
        "rnn_relu": recurrent,
        "rnn_relu_cell": recurrent_cell,
    }


DECONVOLUTION = {
    **rectifier_rules(rectify_signal, rectify_signal_leakily),
    **dict.fromkeys(("prelu", "rrelu"), rectify_signal),
}
GUIDED = rectifier_rules(guide, guide)


@dataclass(frozen=True)
class Deconvolution(NormHeatmap):
    """Deconvolution (Zeiler & Fergus 2014; Samek et al. 2017, section II-B).

    The gradient, except that a rectifier passes on the positive part of the signal, whatever its
    own input was. Made for networks of convolutions, max pooling and ReLUs; smooth rectifiers
    (GELU, SiLU, ...) are treated as ReLUs, everything else by its gradient.

    Attributes:
        norm: how channels are pooled: "l2" or "linf".

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        >>> Deconvolution(norm="l2")(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """

    def backward_rules(self, images: Tensor) -> BackwardRules:
        """Deconvolution's rules."""
        return BackwardRules("deconvolution", DECONVOLUTION, None, images)


@dataclass(frozen=True)
class GuidedBackpropagation(NormHeatmap):
    """Guided backpropagation (Springenberg et al. 2015).

    The gradient, except that a rectifier lets only positive signals pass. Known to look like an
    edge detector whatever the network learnt (Adebayo et al. 2018).

    Attributes:
        norm: how channels are pooled: "l2" or "linf".

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        >>> GuidedBackpropagation()(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """

    def backward_rules(self, images: Tensor) -> BackwardRules:
        """Rules of guided backpropagation."""
        return BackwardRules("guided backpropagation", GUIDED, None, images)
