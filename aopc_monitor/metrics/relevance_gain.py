"""What a heatmap gains at both ends: the area between the curves of its two orders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from aopc_monitor.heatmaps import Heatmap
from aopc_monitor.metrics.aopc import AOPC
from aopc_monitor.metrics.functional.aopc_result import AOPCResult
from aopc_monitor.perturbation.regions import Order


class SymmetricRelevanceGain(AOPC):
    """Area between the curves of least and most relevant first (Bluecher et al. 2024).

    What a heatmap gains by telling the relevant from the irrelevant, at both ends: AOPC of the most
    relevant first minus AOPC of the least relevant first, under the same noise. What any
    perturbation does to the network falls out of the difference, so that it depends less on the
    replacement than either. A random order has 0 on average.

    Args:
        heatmap: a name from `heatmaps.names()` or a callable (model, images, target) -> (N, H, W).
        settings: those of `AOPC`, without `order`. The paper perturbs the whole image: `steps` as
            many as there are regions.

    Raises:
        ValueError: for unknown names and impossible values.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
        >>> metric = SymmetricRelevanceGain("lrp", region_size=4, steps=16, data_range=(0.0, 1.0))
        >>> metric.update(model, torch.rand(8, 3, 16, 16))
        >>> metric.curve().shape
        torch.Size([17])
    """

    def __init__(self, heatmap: str | Heatmap = "lrp", **settings: Any) -> None:
        if "order" in settings:
            raise TypeError("order: SymmetricRelevanceGain always takes both, morf and lerf")
        super().__init__(heatmap, **settings)

    def curve(self) -> Tensor:
        """(L+1,) mean distance of the two curves, least minus most relevant first, at each step."""
        return super().curve()

    def _orders(self, order: Order) -> tuple[Order, ...]:
        return "morf", "lerf"

    def _areas(self, results: Sequence[AOPCResult]) -> Tensor:
        morf, lerf = results
        gain = morf.per_image - lerf.per_image
        return gain / self._clean_scores(results) if self.relative else gain

    def _curves(self, results: Sequence[AOPCResult]) -> Tensor:
        morf, lerf = results
        return lerf.curves - morf.curves
