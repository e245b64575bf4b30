"""Rules of deconvolution."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

from aopc_monitor.heatmaps.backward import BackwardRules, Rule, substitute
from aopc_monitor.heatmaps.base import BackwardHeatmap, check_norm, pooled_norm
from aopc_monitor.heatmaps.calls import Call
from aopc_monitor.heatmaps.operations import (
    COMMON_RULES,
    CONVOLUTIONS,
    GRADIENT_IS_EXACT,
    PRODUCTS,
    TRANSPOSED_CONVOLUTIONS,
)


def rectify_signal(call: Call, mode: BackwardRules) -> Tensor:
    """ReLU: the backward signal itself passes through a ReLU (section II-B, point 2).

    R_i = max(0, R_j), whatever the activation was.
    """
    return substitute(call.first, call.run(), F.relu)


def rectify_signal_leakily(call: Call, mode: BackwardRules) -> Tensor:
    """Leaky ReLU: the backward signal passes through the same leaky ReLU."""
    slope = call.argument(1, "negative_slope", 0.01)
    return substitute(call.first, call.run(), lambda signal: F.leaky_relu(signal, slope))


def rectify_signal_of_hardtanh(call: Call, mode: BackwardRules) -> Tensor:
    """ReLU6 is a hardtanh from 0 to 6; others are no rectifications."""
    if call.argument(1, "min_val", -1.0) != 0:
        mode.without_rule.add("hardtanh")
        result: Tensor = call.run()
        return result
    return rectify_signal(call, mode)


def select(call: Call, mode: BackwardRules) -> Any:
    """Maximum over a dimension is pooling; of two tensors, such as x and 0, it may be a ReLU."""
    if isinstance(call.argument(1, "other"), Tensor):
        mode.without_rule.add(f"{call.name} of two tensors")
    return call.run()


RULES: dict[str, Rule] = {
    **COMMON_RULES,
    "hardtanh": rectify_signal_of_hardtanh,
    "max": select,
    "maximum": select,
    "relu": rectify_signal,
    "relu6": rectify_signal,
    "leaky_relu": rectify_signal_leakily,
}
EXACT = GRADIENT_IS_EXACT.union(
    CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS, PRODUCTS, ["linear", "addmm", "batch_norm"]
)


@dataclass(frozen=True)
class Deconvolution(BackwardHeatmap):
    """Deconvolution (Zeiler & Fergus 2014; Samek et al. 2017, section II-B).

    The gradient, except that a ReLU passes on the positive part of the signal, whatever its own
    input was. Assumes a network of convolutions, max pooling and ReLUs; other nonlinearities are
    named in a warning.

    Attributes:
        norm: how channels are pooled: "l2" or "linf".

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        >>> Deconvolution(norm="l2")(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """

    norm: Literal["l2", "linf"] = "l2"

    def __post_init__(self) -> None:
        check_norm(self.norm)

    def rules(self, images: Tensor) -> AbstractContextManager[BackwardRules]:
        """Deconvolution's rules."""
        return BackwardRules("deconvolution", RULES, EXACT, images)

    def pool(self, images: Tensor, gradient: Tensor) -> Tensor:
        """Norm over channels."""
        return pooled_norm(gradient, self.norm)
