"""What removal metrics share: parts of a heatmap's order are removed, and the score is asked again.

Deletion, insertion, comprehensiveness, sufficiency, SaCo and fidelity differ in which regions of
the order are removed at a time, and in what is made of the scores. That is told by a
`RemovalMeasure`; here all are measured, together at the price of the removals that differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from aopc_monitor.metrics.functional.clean_batch import CleanBatch
from aopc_monitor.network.chunks import ChunkSize, ChunkSizes
from aopc_monitor.perturbation.company import scores_in_company
from aopc_monitor.perturbation.curve import scores_of_spans
from aopc_monitor.perturbation.input_kinds import rank_maps_of
from aopc_monitor.perturbation.protocol import PerturbationProtocol
from aopc_monitor.perturbation.replacements import Replacement
from aopc_monitor.perturbation.spans import Spans
from aopc_monitor.utilities.statistics import accumulator_dtype, error_of_mean


@dataclass(frozen=True)
class Removed:
    """What the removals of one measure did to a batch.

    Attributes:
        clean: (N,) f of the images as they are.
        scores: (N, S) f without the regions of each span.
        spans: (N, S) which regions these are, by their ranks.
        numbers: (N,) how many regions each image has.
        relevance: (N, S) mean relevance of the regions of each span, less the image's smallest.
    """

    clean: Tensor
    scores: Tensor
    spans: Spans
    numbers: Tensor
    relevance: Tensor

    @property
    def drops(self) -> Tensor:
        """(N, S) how far the score fell."""
        return self.clean[:, None] - self.scores


class RemovalMeasure(Protocol):
    """A number per image, made of what the removal of parts of a heatmap's order does.

    Attributes:
        higher_is_better: whether the better heatmap has the larger number.
        replacement: what removed regions become where nothing else is chosen, of inputs that hold
            floating-point numbers.
    """

    higher_is_better: ClassVar[bool]
    replacement: ClassVar[Replacement]

    @property
    def draws(self) -> int:
        """How often a random part of each span is removed; 0 where all of it is."""

    def spans(self, numbers: Tensor) -> Spans:
        """(N, S) what is removed at a time, of images with so many regions (N,)."""

    def value(self, removed: Removed) -> Tensor:
        """(N,) the number of each image."""


@dataclass(frozen=True)
class RemovalResult:
    """What a removal measure found for a batch.

    Attributes:
        per_image: (N,) the measure; where several classes of an image are explained, their mean.
        scores: (N, S) f after each removal, in the order of the measure's spans.
        target: (N,) the explained classes, or what else was given.
        forwards: number of images that went through the network. Measures and heatmaps that were
            evaluated together share them.
    """

    per_image: Tensor
    scores: Tensor
    target: Tensor
    forwards: int

    @property
    def mean(self) -> Tensor:
        """Scalar mean over the images of which a class is explained."""
        return self.per_image.nanmean()

    @property
    def sem(self) -> Tensor:
        """Scalar standard error of the mean over images; NaN for a single image."""
        return error_of_mean(self.per_image[~self.per_image.isnan()])


def results_of_removals(
    clean: CleanBatch,
    protocol: PerturbationProtocol,
    heatmaps: Sequence[Tensor],
    measures: Sequence[RemovalMeasure],
    generator: torch.Generator,
    chunks: ChunkSizes,
) -> list[list[RemovalResult]]:
    """Several measures of several heatmaps with the same draws, inside `untouched(model)`.

    Args:
        clean: the network's answer to the clean images.
        protocol: how to perturb; its steps are not used.
        heatmaps: (P, H, W) each.
        measures: what to measure.
        generator: source of ties, random removals and noise.
        chunks: images per forward.

    Returns:
        For each heatmap one result per measure. Differences of their `per_image` are paired.
    """
    given = clean.explained.given
    if not len(clean.images):
        nothing = clean.scores.new_full((len(given), 1), torch.nan)
        return [[RemovalResult(nothing[:, 0], nothing, given, len(given))] * len(measures)] * len(
            heatmaps
        )
    if clean.explained.has_several:
        protocol = protocol.for_rows(clean.explained.image, clean.images)
    removals = _Removals.of(clean, protocol, heatmaps, generator, clean.chunk_size(chunks))
    found: dict[int, list[Removed]] = {}  # by the number of the measure, for each heatmap
    forwards = len(given)
    for draws in sorted({measure.draws for measure in measures}):
        alike = [n for n, measure in enumerate(measures) if measure.draws == draws]
        spans = [measures[n].spans(removals.numbers) for n in alike]
        removed, count = removals.measured(spans, draws)
        found |= dict(zip(alike, removed, strict=True))
        forwards += count
    over_images = clean.explained.over_images
    return [
        [
            RemovalResult(
                over_images(measure.value(found[n][row])),
                over_images(found[n][row].scores),
                given,
                forwards,
            )
            for n, measure in enumerate(measures)
        ]
        for row in range(len(heatmaps))
    ]


@dataclass(frozen=True)
class _Removals:
    """A batch of which spans of several orders are removed under the same draws.

    Attributes:
        clean: the network's answer to the clean images.
        protocol: how to perturb.
        rank_maps: of each order.
        totals: (N, R + 1) of each, relevance summed from the most relevant region on.
        numbers: (N,) how many regions each image has.
        generator: source of random removals and noise.
        chunk_size: images per forward.
    """

    clean: CleanBatch
    protocol: PerturbationProtocol
    rank_maps: Sequence[Tensor]
    totals: Sequence[Tensor]
    numbers: Tensor
    generator: torch.Generator
    chunk_size: ChunkSize

    @classmethod
    def of(
        cls,
        clean: CleanBatch,
        protocol: PerturbationProtocol,
        heatmaps: Sequence[Tensor],
        generator: torch.Generator,
        chunk_size: ChunkSize,
    ) -> _Removals:
        images = clean.images
        regions = protocol.regions_of(images)
        maps = rank_maps_of(images, [(of, "morf") for of in heatmaps], regions, generator)
        numbers = regions.numbers
        if numbers is None:
            numbers = torch.full((len(images),), regions.num_regions, device=images.device)
        totals = [_totals(regions.relevance(of), numbers) for of in heatmaps]
        return cls(clean, protocol, maps, totals, numbers, generator, chunk_size)

    def measured(self, spans: Sequence[Spans], draws: int) -> tuple[list[list[Removed]], int]:
        """For each measure's spans what they did under each order, and what it cost."""
        each_once, columns = _each_once(spans)
        scores = self._scores(each_once, draws)
        found = [
            [
                Removed(
                    self.clean.scores, of_order[:, chosen], own, self.numbers, _means(totals, own)
                )
                for of_order, totals in zip(scores, self.totals, strict=True)
            ]
            for own, chosen in zip(spans, columns, strict=True)
        ]
        return found, scores.numel() * max(1, draws) * self.protocol.draws

    def _scores(self, spans: Spans, draws: int) -> Tensor:
        """(orders, N, S) scores, where parts of spans are removed at random the mean of them."""
        if not draws:
            return self._scores_once(spans)
        regions = self.totals[0].shape[1] - 1
        sums: Any = 0
        for _ in range(draws):
            sums = sums + self._scores_once(spans.drawn(regions, self.generator))
        return sums / draws

    def _scores_once(self, spans: Spans) -> Tensor:
        clean = self.clean
        return scores_of_spans(
            clean.score_of,
            clean.images,
            self.rank_maps,
            spans,
            self.protocol,
            self.generator,
            self.chunk_size,
            clean.forward,
            scores_in_company if clean.company else None,
        )


def _each_once(spans: Sequence[Spans]) -> tuple[Spans, list[Tensor]]:
    """The spans of several measures, equal ones once, and which of them each measure asks for."""
    dtype = accumulator_dtype(spans[0].first.device)
    columns = [
        torch.cat([of.to(dtype) for of in (one.first, one.last, one.shares)]) for one in spans
    ]
    unique, places = torch.cat(columns, dim=1).unique(dim=1, return_inverse=True)
    first, last, share = unique.chunk(3)
    some = any(one.share is not None for one in spans)
    each_once = Spans(first.long(), last.long(), share if some else None)
    return each_once, list(places.split([one.first.shape[1] for one in spans]))


def _totals(relevance: Tensor, numbers: Tensor) -> Tensor:
    """(N, R + 1) sums of (N, R) relevance above each image's least, the largest first."""
    is_there = torch.arange(relevance.shape[1], device=relevance.device) < numbers[:, None]
    # Distances from the least are exactly 0 for a constant heatmap, and so are their sums.
    least = relevance.masked_fill(~is_there, torch.inf).amin(dim=1, keepdim=True)
    above = (relevance - least).masked_fill(~is_there, 0.0)
    return F.pad(above.sort(dim=1, descending=True).values.cumsum(dim=1), (1, 0))


def _means(totals: Tensor, spans: Spans) -> Tensor:
    """(N, S) mean of what was summed over each span; 0 of an empty one."""
    sums = totals.gather(1, spans.last) - totals.gather(1, spans.first)
    return sums / (spans.last - spans.first).clamp_min(1)
