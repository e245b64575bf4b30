"""Heatmaps of the plain gradient."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from aopc_monitor.heatmaps.base import BackwardHeatmap, NormHeatmap
from aopc_monitor.heatmaps.engine.backward_pass import BackwardPass


@dataclass(frozen=True)
class Sensitivity(NormHeatmap):
    """Sensitivity: the norm of the gradient over a pixel's channels (Samek et al. 2017, eq. 3).

    Attributes:
        norm: "l2" or "linf".

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
        >>> Sensitivity(norm="linf")(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """


@dataclass(frozen=True)
class GradientTimesInput(BackwardHeatmap):
    """Gradient times input, summed over a pixel's channels: signed (Shrikumar et al. 2016).

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
        >>> GradientTimesInput()(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """

    def pool(self, images: Tensor, result: BackwardPass) -> Tensor:
        """Sum of products over channels."""
        return (images * result.signal).sum(dim=1)
