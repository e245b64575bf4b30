"""What the removal metrics share: a measure of `functional`, averaged over images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps import Heatmap, with_data_range
from aopc_monitor.heatmaps.table import get_seeded
from aopc_monitor.metrics.base import MeanOverImages
from aopc_monitor.metrics.functional.removal import RemovalMeasure
from aopc_monitor.metrics.functional.removal_measures import (
    CHOICES,
    for_batch,
    removal_protocol,
    removals_of_batch,
)
from aopc_monitor.network.chunks import ChunkSizesByNetwork
from aopc_monitor.network.execution import Execution, checked_execution
from aopc_monitor.network.targets import Target
from aopc_monitor.perturbation.input_batch import InputBatch
from aopc_monitor.utilities.checks import check_network
from aopc_monitor.utilities.setting_text import arguments_text


class RemovalMetric(MeanOverImages):
    """The mean over images of a removal measure, `Deletion` for instance.

    Each is compared with the same of `heatmap="random"` under the same seed: the same images then
    get the same noise.

    Args:
        measure: what is measured.
        heatmap: a name from `heatmaps.names()` or a callable (model, images, target) -> (N, H, W).
        execution: how forwards are carried out; see `Execution`.
        seed: seed of ties, random removals and noise.
        settings: how to perturb, `region_size`, `data_range`, `replacement`, `repeats`, `regions`,
            `region_relevance`, `score`, `output_fn` and `target` as in `AOPC`; and torchmetrics'
            own arguments. If no replacement is given, the measure's own, and "zero" for texts.

    Raises:
        TypeError, ValueError: for unknown names and impossible values.
    """

    left_out: Tensor

    def __init__(
        self,
        measure: RemovalMeasure,
        heatmap: str | Heatmap = "lrp",
        *,
        execution: Execution | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        execution = checked_execution(execution)
        choices = {name: settings.pop(name) for name in CHOICES if name in settings}
        protocol = removal_protocol(execution, **choices)
        made = with_data_range(get_seeded(heatmap, seed), protocol.data_range)
        super().__init__(
            (type(measure).__name__, measure, made, seed, protocol.comparable()), **settings
        )
        self.measure, self.heatmap, self.seed, self.protocol = measure, made, seed, protocol
        self._chunks = ChunkSizesByNetwork(execution.chunk_size)
        self.add_state("left_out", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(
        self,
        model: nn.Module,
        images: Tensor | Mapping[str, Any],
        heatmaps: Tensor | None = None,
        regions: Any = None,
        target: Target = None,
        inputs: Any = (),
    ) -> None:
        """Measure a batch and add it to the average; the model is left as it was.

        Args:
            model: network that returns (N, classes), or an object with that as `.logits`.
            images: (N, C, H, W) floating point, as the network sees them; or another kind of input,
                as in `AOPC.update`, and so are the others.
            heatmaps: (N, H, W); computed by `heatmap` for the explained classes if not given.
            regions: a map of regions of this batch.
            target: (N,) the explained classes, or (N, K) truth values. An image without any is
                left out (`left_out` counts them).
            inputs: what `forward` takes after the images.

        Raises:
            TypeError: for images, heatmaps or outputs of the wrong type.
            ValueError: for a wrong shape, device or value; the message names the argument.
        """
        check_network(model)
        batch = InputBatch.of(images, inputs)
        protocol = for_batch(self.protocol, self.measure, batch, regions)
        made = self.heatmap if heatmaps is None else heatmaps
        chosen = ([self.measure], protocol, self.seed, self._chunks, target, batch.inputs)
        (result,) = removals_of_batch(model, batch.images, made, *chosen)
        is_missing = result.per_image.isnan()
        self._add(result.per_image[~is_missing])
        self.left_out = self.left_out + is_missing.sum().to(self.left_out)

    def extra_repr(self) -> str:
        """The settings that are not as usual, for `repr`."""
        own = arguments_text(type(self).__init__, {"heatmap": self.heatmap, **vars(self.measure)})
        execution = None if self.protocol.execution == Execution() else self.protocol.execution
        shared = {**vars(self.protocol), "execution": execution, "seed": self.seed}
        return ", ".join(text for text in (own, arguments_text(_choices, shared)) if text)


def _choices(
    *,
    region_size: Any = None,
    data_range: Any = None,
    replacement: Any = None,
    repeats: int = 1,
    regions: Any = None,
    region_relevance: Any = "mean",
    score: Any = "probability",
    output_fn: Any = None,
    target: Any = None,
    execution: Any = None,
    seed: int = 0,
) -> None:
    """What all removal metrics take, with what is usual."""
