"""Comprehensiveness and sufficiency as torchmetrics metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aopc_monitor.heatmaps import Heatmap
from aopc_monitor.metrics.functional.rationales import (
    SHARES,
    ComprehensivenessMeasure,
    SufficiencyMeasure,
)
from aopc_monitor.metrics.removal_metric import RemovalMetric


class Comprehensiveness(RemovalMetric):
    """How far the score falls without the most relevant regions, averaged over all images seen.

    DeYoung et al. 2020; see `comprehensiveness`. **Higher is better.**

    Args:
        heatmap: a name from `heatmaps.names()` or a callable (model, images, target) -> (N, H, W).
        shares: of an input's regions, the most relevant ones.
        settings: those of `RemovalMetric`.

    Raises:
        TypeError, ValueError: for unknown names and impossible values.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
        >>> metric = Comprehensiveness("gradient_x_input", region_size=2)
        >>> metric.update(model, torch.rand(4, 3, 8, 8))
        >>> -1 < float(metric.compute()) < 1
        True
    """

    higher_is_better = True

    def __init__(
        self, heatmap: str | Heatmap = "lrp", *, shares: Sequence[float] = SHARES, **settings: Any
    ) -> None:
        super().__init__(ComprehensivenessMeasure(shares), heatmap, **settings)


class Sufficiency(RemovalMetric):
    """How far the score falls with nothing but the most relevant regions, averaged over images.

    DeYoung et al. 2020; see `sufficiency`. **Lower is better.**

    Args:
        heatmap: a name from `heatmaps.names()` or a callable (model, images, target) -> (N, H, W).
        shares: of an input's regions, the most relevant ones.
        settings: those of `RemovalMetric`.

    Raises:
        TypeError, ValueError: for unknown names and impossible values.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
        >>> metric = Sufficiency("gradient_x_input", region_size=2)
        >>> metric.update(model, torch.rand(4, 3, 8, 8))
        >>> -1 < float(metric.compute()) < 1
        True
    """

    higher_is_better = False

    def __init__(
        self, heatmap: str | Heatmap = "lrp", *, shares: Sequence[float] = SHARES, **settings: Any
    ) -> None:
        super().__init__(SufficiencyMeasure(shares), heatmap, **settings)
