"""Deletion and insertion as torchmetrics metrics."""

from __future__ import annotations

from typing import Any

from aopc_monitor.heatmaps import Heatmap
from aopc_monitor.metrics.functional.deletion_insertion import DeletionMeasure, InsertionMeasure
from aopc_monitor.metrics.removal_metric import RemovalMetric


class Deletion(RemovalMetric):
    """Area under the score while the most relevant regions go, averaged over all images seen.

    Petsiuk et al. 2018, as torch-cam 0.5 defines it; see `deletion`. **Lower is better.**

    Args:
        heatmap: a name from `heatmaps.names()` or a callable (model, images, target) -> (N, H, W).
        steps: in how many parts the regions go.
        settings: those of `RemovalMetric`.

    Raises:
        TypeError, ValueError: for unknown names and impossible values.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
        >>> metric = Deletion("gradient_x_input", steps=4, region_size=2)
        >>> metric.update(model, torch.rand(4, 3, 8, 8))
        >>> 0 < float(metric.compute()) < 1
        True
    """

    higher_is_better = False

    def __init__(self, heatmap: str | Heatmap = "lrp", *, steps: int = 20, **settings: Any) -> None:
        super().__init__(DeletionMeasure(steps), heatmap, **settings)


class Insertion(RemovalMetric):
    """Area under the score while the most relevant regions come back, averaged over images.

    Petsiuk et al. 2018, as torch-cam 0.5 defines it; see `insertion`. **Higher is better.**

    Args:
        heatmap: a name from `heatmaps.names()` or a callable (model, images, target) -> (N, H, W).
        steps: in how many parts the regions come back.
        settings: those of `RemovalMetric`.

    Raises:
        TypeError, ValueError: for unknown names and impossible values.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
        >>> metric = Insertion("gradient_x_input", steps=4, region_size=2, replacement="blur")
        >>> metric.update(model, torch.rand(4, 3, 8, 8))
        >>> 0 < float(metric.compute()) < 1
        True
    """

    higher_is_better = True

    def __init__(self, heatmap: str | Heatmap = "lrp", *, steps: int = 20, **settings: Any) -> None:
        super().__init__(InsertionMeasure(steps), heatmap, **settings)
