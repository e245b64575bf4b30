"""AOPC as a torchmetrics metric: sums and counts only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps import Heatmap, with_data_range
from aopc_monitor.heatmaps.table import get_seeded
from aopc_monitor.metrics.base import MeanOverImages
from aopc_monitor.metrics.functional.aopc import batch_results
from aopc_monitor.metrics.functional.aopc_result import AOPCResult
from aopc_monitor.metrics.moved_arguments import telling_what_moved
from aopc_monitor.network.chunks import ChunkSizesByNetwork
from aopc_monitor.network.execution import Execution, checked_execution
from aopc_monitor.network.outputs import OutputFunction
from aopc_monitor.network.scores import Score
from aopc_monitor.network.targets import Target, TargetChoice
from aopc_monitor.perturbation.data_range import DataRange
from aopc_monitor.perturbation.input_batch import InputBatch
from aopc_monitor.perturbation.protocol import PerturbationProtocol, StepIs
from aopc_monitor.perturbation.region_map import RegionRelevance
from aopc_monitor.perturbation.regions import Order, check_order
from aopc_monitor.perturbation.replacements import Replacement
from aopc_monitor.utilities.checks import check_network
from aopc_monitor.utilities.setting_text import arguments_text
from aopc_monitor.utilities.statistics import standard_error


class AOPC(MeanOverImages):
    """Area over the perturbation curve, averaged over all images seen (Samek et al. 2017, eq. 12).

    The larger, the faster the prediction collapses when the regions go that the heatmap calls
    relevant. Compare it with `AOPC(heatmap="random", ...)` of the same settings: the same images
    then get the same noise, and the difference is what the heatmap knows.

    The states are sums of fixed shape, so the metric synchronises over processes, merges and
    resets as any torchmetrics metric. The noise depends on `seed` and on the batch alone.

    Args:
        heatmap: a name from `heatmaps.names()` or a callable (model, images, target) -> (N, H, W).
        region_size: side m of the regions, a number or one per dimension: pixels of an image, time
            steps of a series, voxels of a volume. Not for regions of your own, nor tables, of which
            each feature is a region.
        steps: L, how many regions are perturbed; see `step_is`.
        data_range: (low, high) of valid inputs as the network sees them, numbers or one per
            channel (of a table per feature); for normalised images see `normalized_data_range`.
            Not needed by "blur", "mean", "linear" and a constant of your own.
        order: "morf" (most relevant first), "lerf" (least relevant first) or "random".
        relative: divide each image's area by f(x^(0)), so that networks of different confidence
            compare; only for positive scores.
        replacement: "uniform" noise, the usual one, "blur" (of images and volumes), "mean" (not of
            tables), "constant", "noisy_linear" (of images), "linear" (of series); of texts "zero",
            the usual one, "left_out", `MaskToken(id)`; or a `Replacement`.
        repeats: independent draws of a random replacement.
        sampled_steps: J, how many of the steps are evaluated for each image, one drawn from each of
            J parts of 1 ... L; all if not given.
        regions: regions of your own in the place of a grid: whole numbers from 0 on, one per
            location, for all inputs, -1 where nothing is perturbed; or a function from inputs to
            these, for each. Also of a batch, in `update`.
        region_relevance: of a region of your own, the "mean" or the "sum" of the heatmap over it.
        step_is: "region", step k perturbs k regions, or "share", step k of L that share of an
            input's regions; if not given, "share" where each input has regions of its own.
        score: "probability", "logit", "log_probability", "sigmoid" (independent labels, or one
            number per image), "value" (of a regression), "segmentation" (mean logit of a class over
            the pixels that have it), or (outputs, target) -> (N,).
        output_fn: from what the model returns to (N, classes), where `chosen_output` finds another
            tensor in it.
        target: what is explained where a batch comes with no target of its own: "predicted" (by a
            score of independent labels or pixels each class that is predicted, by itself), or a
            function from clean outputs to (N,) classes or (N, K) truth values; the likeliest class,
            or the one of most pixels, if not given.
        execution: how forwards are carried out: images at once, layout, precision, compiling; see
            `Execution`, whose defaults hold if not given.
        seed: seed of ties and noise.
        kwargs: torchmetrics' own arguments.

    Raises:
        ValueError: for unknown names and impossible values.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
        >>> metric = AOPC(heatmap="lrp", region_size=4, steps=8, data_range=(0.0, 1.0))
        >>> for _ in range(2):
        ...     metric.update(model, torch.rand(8, 3, 16, 16))
        >>> metric.compute().shape, metric.curve().shape
        (torch.Size([]), torch.Size([9]))
    """

    higher_is_better = True

    total_curve: Tensor
    squares_curve: Tensor
    count_curve: Tensor
    left_out: Tensor

    @telling_what_moved
    def __init__(
        self,
        heatmap: str | Heatmap = "lrp",
        *,
        region_size: int | Sequence[int] | None = None,
        steps: int,
        data_range: DataRange | None = None,
        order: Order = "morf",
        relative: bool = False,
        replacement: str | Replacement | None = None,
        repeats: int = 1,
        sampled_steps: int | None = None,
        regions: Any = None,
        region_relevance: RegionRelevance = "mean",
        step_is: StepIs | None = None,
        score: Score = "probability",
        output_fn: OutputFunction | None = None,
        target: TargetChoice = None,
        execution: Execution | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        execution = checked_execution(execution)
        protocol = PerturbationProtocol(
            region_size,
            steps,
            data_range,
            replacement,
            repeats,
            sampled_steps,
            score,
            execution,
            output_fn,
            regions=regions,
            region_relevance=region_relevance,
            step_is=step_is,
            target=target,
        )
        check_order(order)
        made = with_data_range(get_seeded(heatmap, seed), data_range)
        shared = (made, self._orders(order), relative, seed, protocol.comparable())
        super().__init__(shared, **kwargs)
        self.protocol, self.heatmap, self.order, self.seed = protocol, made, order, seed
        self.relative = relative
        self._chunks, self._is_warned = ChunkSizesByNetwork(execution.chunk_size), False
        zeros = torch.zeros(steps + 1, dtype=torch.float64)
        self.add_state("total_curve", zeros, dist_reduce_fx="sum")
        self.add_state("squares_curve", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("count_curve", zeros.long(), dist_reduce_fx="sum")
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
        """Perturb a batch and add it to the average; the model is left as it was.

        Args:
            model: network that returns (N, classes), or an object with that as `.logits`.
            images: (N, C, H, W) floating point, as the network sees them; or another kind of
                input: series (N, C, L), volumes (N, C, D, H, W), tables (N, F), token ids (N, T),
                or a mapping with these as `input_ids`.
            heatmaps: (N, H, W); computed by `heatmap` for the explained classes if not given.
            regions: a map of regions of this batch, `(N, *space)` whole numbers, in the place of
                those that the metric was made with.
            target: (N,) the explained classes of this batch, or (N, K) truth values of which each
                true one is explained by itself: an image counts once, by the mean over its labels,
                and one without any is left out (`left_out` counts them).
            inputs: what `forward` takes after the images: a tensor, several in a tuple, or by name.

        Raises:
            TypeError: for images, heatmaps or outputs of the wrong type.
            ValueError: for a wrong shape, device or value; the message names the argument.
        """
        results = self._evaluate(model, images, heatmaps, regions, target, inputs)
        areas = self._areas(results)
        self._add(areas[~areas.isnan()])
        self.left_out = self.left_out + areas.isnan().sum().to(self.left_out)
        curves = self._curves(results)
        # Out of place: states that were made in inference mode refuse to be written into.
        self.total_curve = self.total_curve + curves.nansum(dim=0).to(self.total_curve)
        squares = curves.square().nansum(dim=0)
        self.squares_curve = self.squares_curve + squares.to(self.squares_curve)
        counts = (~curves.isnan()).sum(dim=0)
        self.count_curve = self.count_curve + counts.to(self.count_curve)

    def curve(self) -> Tensor:
        """(L+1,) mean perturbation curve f(x^(0)) ... f(x^(L)) over all images seen.

        With `sampled_steps` each step over the images that it was evaluated for; NaN if for none.
        """
        with self._over_processes():
            return self._cast(self.total_curve / self.count_curve)

    def curve_standard_error(self) -> Tensor:
        """(L+1,) standard error of `curve` over images; NaN at steps of fewer than two of them."""
        with self._over_processes():
            return self._cast(
                standard_error(self.count_curve, self.total_curve, self.squares_curve)
            )

    def extra_repr(self) -> str:
        """The settings that are not as usual, for `repr`."""
        own = {name: getattr(self, name) for name in ("heatmap", "order", "relative", "seed")}
        protocol = vars(self.protocol)
        execution = None if self.protocol.execution == Execution() else self.protocol.execution
        return arguments_text(AOPC.__init__, {**own, **protocol, "execution": execution})

    def _orders(self, order: Order) -> tuple[Order, ...]:
        """The orders that are evaluated under the same draws."""
        return (order,)

    def _areas(self, results: Sequence[AOPCResult]) -> Tensor:
        """(N,) what is averaged."""
        areas = results[0].per_image
        return areas / self._clean_scores(results) if self.relative else areas

    def _curves(self, results: Sequence[AOPCResult]) -> Tensor:
        """(N, L+1) what `curve` averages; NaN at steps that were not evaluated."""
        return results[0].curves

    def _clean_scores(self, results: Sequence[AOPCResult]) -> Tensor:
        scores = results[0].curves[:, 0]
        if (scores <= 0).any():
            least = float(scores[~scores.isnan()].min())
            raise ValueError(
                f"relative=True, but f(x) of an image is {least:.4g}: a share of it "
                'means nothing; take score="probability", or relative=False'
            )
        return scores

    def _evaluate(
        self,
        model: nn.Module,
        images: Tensor | Mapping[str, Any],
        heatmaps: Tensor | None,
        regions: Any,
        target: Target,
        inputs: Any,
    ) -> list[AOPCResult]:
        check_network(model)
        batch = InputBatch.of(images, inputs)
        protocol = batch.protocol(self.protocol, regions)
        if not self._is_warned:  # at the first batch, and not at each
            protocol.warn_of_doubts(batch.images)
            self._is_warned = True
        orders = self._orders(self.order)
        made = self.heatmap if heatmaps is None else heatmaps
        chosen = (protocol, self.seed, self._chunks, target)
        return batch_results(model, batch.images, made, orders, *chosen, inputs=batch.inputs)
