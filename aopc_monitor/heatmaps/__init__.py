"""Heatmaps that leave the model alone: callables (model, images, target) -> (N, H, W).

Example:
    >>> import torch
    >>> from aopc_monitor import heatmaps
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
    >>> heatmaps.get("lrp")(model, torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 8, 8])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aopc_monitor.heatmaps.base import BackwardHeatmap, Heatmap
from aopc_monitor.heatmaps.composites import (
    AttnLRP,
    DeepTaylor,
    LRPEpsilonGammaBox,
    LRPEpsilonPlus,
)
from aopc_monitor.heatmaps.controls import RandomOrder
from aopc_monitor.heatmaps.deconvolution import Deconvolution, GuidedBackpropagation
from aopc_monitor.heatmaps.gradients import GradientTimesInput, Sensitivity
from aopc_monitor.heatmaps.linear_operations import linear
from aopc_monitor.heatmaps.relevance import LRP, LRPAlphaBeta, LRPEpsilon, lrp_rules

HEATMAPS: dict[str, Callable[[], Heatmap]] = {
    "sensitivity_l2": lambda: Sensitivity(norm="l2"),
    "sensitivity_linf": lambda: Sensitivity(norm="linf"),
    "gradient_x_input": GradientTimesInput,
    "deconvolution_l2": lambda: Deconvolution(norm="l2"),
    "deconvolution_linf": lambda: Deconvolution(norm="linf"),
    "guided_backpropagation_l2": lambda: GuidedBackpropagation(norm="l2"),
    "guided_backpropagation_linf": lambda: GuidedBackpropagation(norm="linf"),
    "lrp": lambda: LRPEpsilon(epsilon=0.01),
    "lrp_alpha2_beta1": lambda: LRPAlphaBeta(alpha=2, beta=-1),
    "lrp_epsilon_plus": LRPEpsilonPlus,
    "lrp_epsilon_gamma_box": LRPEpsilonGammaBox,
    "deep_taylor": DeepTaylor,
    "attnlrp": AttnLRP,
    "random": RandomOrder,
}


def names() -> list[str]:
    """Names that `get` knows.

    Example:
        >>> names()[-3:]
        ['lrp', 'lrp_alpha2_beta1', 'random']
    """
    return list(HEATMAPS)


def get(heatmap: str | Heatmap) -> Heatmap:
    """The heatmap of that name; a callable is returned as it is.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.
        TypeError: for anything that is neither a name nor callable.

    Example:
        >>> get("lrp")
        LRPEpsilon(epsilon=0.01)
    """
    if isinstance(heatmap, str):
        if heatmap not in HEATMAPS:
            raise ValueError(f"heatmap={heatmap!r} is unknown: choose one of {', '.join(names())}")
        return HEATMAPS[heatmap]()
    if not callable(heatmap):
        raise TypeError(
            f"heatmap={heatmap!r} is neither a name nor a callable "
            "(model, images, target) -> (N, H, W)"
        )
    return heatmap


def named_heatmaps(heatmap: Any) -> dict[str, Heatmap]:
    """Heatmaps by the name that they are logged under.

    Args:
        heatmap: a name, a callable, several of these in a sequence, or a dict from names to these.

    Raises:
        ValueError: for unknown names, two of one name, none at all, or the random order, which is
            always measured beside the others.
        TypeError: for what is neither name nor callable.

    Example:
        >>> named_heatmaps(["lrp", Sensitivity("linf")])
        {'lrp': LRPEpsilon(epsilon=0.01), 'Sensitivity': Sensitivity(norm='linf')}
    """
    if isinstance(heatmap, Mapping):
        pairs = list(heatmap.items())
    else:
        single = isinstance(heatmap, str) or not isinstance(heatmap, Sequence)
        pairs = [(_name_of(one), one) for one in ([heatmap] if single else heatmap)]
    named = {str(name): get(one) for name, one in pairs}
    if not named or len(named) < len(pairs):
        raise ValueError(f"heatmap={heatmap!r} must hold one or more heatmaps of different names")
    if "random" in named:
        raise ValueError(
            'heatmap="random": the random order is always measured beside the heatmaps; name at '
            "least one other"
        )
    return named


def _name_of(heatmap: Any) -> str:
    name: str = heatmap if isinstance(heatmap, str) else getattr(heatmap, "__name__", "")
    return name or type(heatmap).__name__


__all__ = [
    "HEATMAPS",
    "LRP",
    "AttnLRP",
    "BackwardHeatmap",
    "Deconvolution",
    "DeepTaylor",
    "GradientTimesInput",
    "GuidedBackpropagation",
    "Heatmap",
    "LRPAlphaBeta",
    "LRPEpsilon",
    "LRPEpsilonGammaBox",
    "LRPEpsilonPlus",
    "RandomOrder",
    "Sensitivity",
    "get",
    "linear",
    "lrp_rules",
    "named_heatmaps",
    "names",
]
