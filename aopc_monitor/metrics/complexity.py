"""The complexity of heatmaps as a torchmetrics metric: sums and counts only."""

from __future__ import annotations

from typing import Any, get_args

from torch import Tensor

from aopc_monitor.metrics.base import MeanOverImages
from aopc_monitor.metrics.functional.complexity import (
    Measure,
    check_encoding,
    file_size,
    shannon_entropy,
)
from aopc_monitor.utilities.setting_text import arguments_text


class HeatmapComplexity(MeanOverImages):
    """Complexity of heatmaps, averaged over all that it was given (Samek et al. 2017, Fig. 5).

    Neither a model nor images have a part in it, so `update` takes the heatmaps alone. Beside
    metrics that take more, a `MetricCollection` that is updated by keywords, as in
    `update(model=model, images=images, heatmaps=heatmaps)`, gives each what it asks for.

    Args:
        measure: "png" or "jpeg" (see `file_size`), or "entropy" (see `shannon_entropy`).
        quality: of the JPEG, from 1 to 100.
        signed: see `grey_levels`.
        kwargs: torchmetrics' own arguments.

    Raises:
        ValueError: for an unknown measure or an impossible quality.

    Example:
        >>> import torch
        >>> metric = HeatmapComplexity(measure="entropy")
        >>> metric.update(torch.eye(2).expand(3, 2, 2))
        >>> metric.compute(), metric.standard_error()
        (tensor(1.), tensor(0.))
    """

    higher_is_better = False

    def __init__(
        self, *, measure: Measure = "png", quality: int = 75, signed: bool = True, **kwargs: Any
    ) -> None:
        if measure not in get_args(Measure):
            known = ", ".join(get_args(Measure))
            raise ValueError(f"measure={measure!r} is unknown: choose one of {known}")
        check_encoding("png", quality)
        super().__init__(("complexity", measure, quality, signed), **kwargs)
        self.measure: Measure = measure
        self.quality = quality
        self.signed = signed

    def extra_repr(self) -> str:
        """The settings that are not as usual, for `repr`."""
        return arguments_text(HeatmapComplexity.__init__, vars(self))

    def update(self, heatmaps: Tensor) -> None:
        """Measure heatmaps `(N, *space)`, such as (N, H, W), and add them to the average.

        Raises:
            ModuleNotFoundError: for file sizes, if Pillow is not installed.
            TypeError: unless heatmaps is a tensor of real numbers.
            ValueError: for another shape, NaN or infinite values.
        """
        if self.measure == "entropy":
            self._add(shannon_entropy(heatmaps, signed=self.signed))
        else:
            size = file_size(heatmaps, self.measure, quality=self.quality, signed=self.signed)
            self._add(size)
