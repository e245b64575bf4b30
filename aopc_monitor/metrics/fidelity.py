"""Fidelity by random removals as torchmetrics metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aopc_monitor.heatmaps import Heatmap
from aopc_monitor.metrics.functional.fidelity import (
    SHARES,
    FidelityMinusMeasure,
    FidelityPlusMeasure,
)
from aopc_monitor.metrics.removal_metric import RemovalMetric


class FidelityPlus(RemovalMetric):
    """How far the score falls when a random part of the explanation goes, averaged over images.

    Zheng et al. 2025, without their fine-tuning; see `fidelity_plus`. **Higher is better.**

    Args:
        heatmap: a name from `heatmaps.names()` or a callable (model, images, target) -> (N, H, W).
        shares: sizes of the explanation, as shares of an input's regions.
        alpha: the probability that a region of the explanation is removed.
        beta: the share of all regions that is removed at most, on average.
        draws: random removals of each size.
        settings: those of `RemovalMetric`.

    Raises:
        TypeError, ValueError: for unknown names and impossible values.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
        >>> metric = FidelityPlus("gradient_x_input", draws=5, region_size=2)
        >>> metric.update(model, torch.rand(4, 3, 8, 8))
        >>> -1 < float(metric.compute()) < 1
        True
    """

    higher_is_better = True

    def __init__(
        self,
        heatmap: str | Heatmap = "lrp",
        *,
        shares: Sequence[float] = SHARES,
        alpha: float = 0.5,
        beta: float = 0.1,
        draws: int = 20,
        **settings: Any,
    ) -> None:
        super().__init__(FidelityPlusMeasure(shares, alpha, beta, draws), heatmap, **settings)


class FidelityMinus(RemovalMetric):
    """How far the score falls when a random part of all but the explanation goes.

    Averaged over images. Zheng et al. 2025, without their fine-tuning; see `fidelity_minus`.
    **Lower is better.**

    Args:
        heatmap: a name from `heatmaps.names()` or a callable (model, images, target) -> (N, H, W).
        shares: sizes of the explanation, as shares of an input's regions.
        alpha: the probability that a region of the others is removed.
        beta: the share of all regions that is removed at most, on average.
        draws: random removals of each size.
        settings: those of `RemovalMetric`.

    Raises:
        TypeError, ValueError: for unknown names and impossible values.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
        >>> metric = FidelityMinus("gradient_x_input", draws=5, region_size=2)
        >>> metric.update(model, torch.rand(4, 3, 8, 8))
        >>> -1 < float(metric.compute()) < 1
        True
    """

    higher_is_better = False

    def __init__(
        self,
        heatmap: str | Heatmap = "lrp",
        *,
        shares: Sequence[float] = SHARES,
        alpha: float = 0.5,
        beta: float = 0.1,
        draws: int = 20,
        **settings: Any,
    ) -> None:
        super().__init__(FidelityMinusMeasure(shares, alpha, beta, draws), heatmap, **settings)
