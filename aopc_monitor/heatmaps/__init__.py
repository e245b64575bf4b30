"""Heatmaps that leave the model alone: callables (model, images, target) -> (N, H, W).

Example:
    >>> import torch
    >>> from aopc_monitor import heatmaps
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
    >>> heatmaps.get("lrp")(model, torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 8, 8])
"""

from __future__ import annotations

from collections.abc import Callable

from aopc_monitor.heatmaps.base import BackwardHeatmap, Heatmap
from aopc_monitor.heatmaps.controls import RandomOrder
from aopc_monitor.heatmaps.deconvolution import Deconvolution
from aopc_monitor.heatmaps.gradients import GradientTimesInput, Sensitivity
from aopc_monitor.heatmaps.relevance import LRPAlphaBeta, LRPEpsilon

HEATMAPS: dict[str, Callable[[], Heatmap]] = {
    "sensitivity_l2": lambda: Sensitivity(norm="l2"),
    "sensitivity_linf": lambda: Sensitivity(norm="linf"),
    "gradient_x_input": GradientTimesInput,
    "deconvolution_l2": lambda: Deconvolution(norm="l2"),
    "deconvolution_linf": lambda: Deconvolution(norm="linf"),
    "lrp": lambda: LRPEpsilon(epsilon=0.01),
    "lrp_alpha2_beta1": lambda: LRPAlphaBeta(alpha=2, beta=-1),
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


__all__ = [
    "HEATMAPS",
    "BackwardHeatmap",
    "Deconvolution",
    "GradientTimesInput",
    "Heatmap",
    "LRPAlphaBeta",
    "LRPEpsilon",
    "RandomOrder",
    "Sensitivity",
    "get",
    "names",
]
