"""SaCo as a torchmetrics metric."""

from __future__ import annotations

from typing import Any

from aopc_monitor.heatmaps import Heatmap
from aopc_monitor.metrics.functional.saco import GROUPS, SaCoMeasure
from aopc_monitor.metrics.removal_metric import RemovalMetric


class SaCo(RemovalMetric):
    """The salience-guided faithfulness coefficient, averaged over all images seen.

    Wu et al. 2024; see `saco`. **Higher is better.** Its expectation for a random heatmap is about
    0.

    Args:
        heatmap: a name from `heatmaps.names()` or a callable (model, images, target) -> (N, H, W).
        groups: how many groups the order of regions is cut into.
        settings: those of `RemovalMetric`.

    Raises:
        TypeError, ValueError: for unknown names and impossible values.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
        >>> metric = SaCo("gradient_x_input", groups=4, region_size=2)
        >>> metric.update(model, torch.rand(4, 3, 8, 8))
        >>> -1 <= float(metric.compute()) <= 1
        True
    """

    higher_is_better = True

    def __init__(
        self, heatmap: str | Heatmap = "lrp", *, groups: int = GROUPS, **settings: Any
    ) -> None:
        super().__init__(SaCoMeasure(groups), heatmap, **settings)
