"""What a network says of images before anything is perturbed, and their heatmaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps.of_texts import are_texts, for_texts, relevance_of
from aopc_monitor.heatmaps.several_norms import in_passes, maps_in
from aopc_monitor.metrics.functional.clean_answers import CleanAnswer, clean_answers
from aopc_monitor.network.asked import AskedNetwork, asked_for
from aopc_monitor.network.chunks import (
    ChunkSize,
    ChunkSizes,
    in_chunks,
    proceed,
)
from aopc_monitor.network.execution import Execution, Forward, TargetScore
from aopc_monitor.network.further_inputs import Inputs
from aopc_monitor.network.isolation import untouched
from aopc_monitor.network.memory import keep_freed_memory
from aopc_monitor.network.outputs import OutputFunction
from aopc_monitor.network.pixels import PixelAnswers
from aopc_monitor.network.scores import Score, ScoreFunction, checked_scores
from aopc_monitor.network.targets import Explanations, Predicted, Target
from aopc_monitor.network.usual_chunks import MOST_BACKWARD
from aopc_monitor.perturbation.input_kinds import kind_of
from aopc_monitor.utilities.checks import NotFiniteError, are_finite
from aopc_monitor.utilities.setting_text import setting_text

if TYPE_CHECKING:
    from aopc_monitor.heatmaps import Heatmap


@dataclass(frozen=True)
class CleanBatch:
    """A batch and what the network says of it before anything is perturbed.

    Each of its rows is an explanation: a class of an image. There are as many as images, P = N,
    unless targets name several classes of an image, or none.

    Attributes:
        images: (P, C, H, W).
        forward: the network as it is asked, and called for scores.
        outputs: (P, classes).
        target: (P,) the explained classes.
        score: f on (outputs, target).
        scores: (P,) f(x^(0)).
        explained: which image each explanation is of.
        predicted: what the network predicts of the N images.
        confidence: (P,) mean probability of the class over its pixels, where pixels have classes.
        company: images that go through the network together, where they see each other; None where
            an image's answer is its own.
    """

    images: Tensor
    forward: Forward
    outputs: Tensor
    target: Tensor
    score: ScoreFunction
    scores: Tensor
    explained: Explanations
    predicted: Predicted
    confidence: Tensor | None = None
    company: int | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        images: Tensor,
        score: Score,
        execution: Execution,
        chunks: ChunkSizes,
        target: Target = None,
        before_each: Callable[[], None] = proceed,
        output_fn: OutputFunction | None = None,
        inputs: Inputs = (),
        to_come: int = 0,
    ) -> CleanBatch:
        """Evaluate the network on clean images, inside `untouched(model)`.

        Args:
            model: the network.
            images: (N, C, H, W).
            score: what f is.
            execution: how forwards are carried out.
            chunks: images at once.
            target: what is explained, see `chosen_target`; the predictions if not given.
            before_each: called before each chunk; raises to stop.
            output_fn: from what the network returns to (N, classes).
            inputs: what its forward takes after the images, one row for each image.
            to_come: how many images will go through the network, if somebody knows.

        Raises:
            ForwardError: if the network cannot be asked at all.
        """
        images = images.detach()
        if images.device.type == "cpu":
            keep_freed_memory()
        asked = asked_for(model, images, score, output_fn, inputs, before_each)
        before_each()
        company = MOST_BACKWARD if asked.images_meet else None
        forward = Forward.of(asked.network, images, execution, to_come)
        size = chunks.forward if company is None else ChunkSize(company)
        with asked.explaining_errors(images), torch.no_grad():
            parts = _answers(forward, images, size, before_each, _kept_by(score, forward, target))
        found = clean_answers(parts, forward.model, score, asked.score, target)
        _check_company(company, found.explained)
        scores = checked_scores(found.function, found.outputs, found.explained.target)
        if not are_finite(scores):
            raise NotFiniteError("score gave NaN or infinite numbers for clean images")
        return cls(
            found.explained.rows_of(images),
            forward.through(found.network, images),
            found.outputs,
            found.explained.target,
            found.function,
            scores,
            found.explained,
            found.predicted,
            found.confidence,
            company,
        )

    @property
    def score_of(self) -> TargetScore:
        """f: (images (M, C, H, W), index of each one's row of the batch (M,)) -> (M,)."""
        return TargetScore(self.forward, self.score, self.target, self.outputs.shape[1])

    def chunk_size(self, chunks: ChunkSizes) -> ChunkSize:
        """Images of one forward: as many as the chunks say, or all that see each other."""
        return chunks.forward if self.company is None else ChunkSize(self.company)

    def all_heatmaps(
        self,
        makers: Sequence[Heatmap],
        chunks: ChunkSizes,
        before_each: Callable[[], None] = proceed,
    ) -> list[Tensor]:
        """(P, H, W) of each heatmap; those that differ in their norm share a backward pass."""
        if not len(self.images):
            return [self.heatmaps(make, chunks) for make in makers]
        found: dict[int, Tensor] = {}
        for make, places in in_passes(makers):
            maps = maps_in(self.heatmaps(make, chunks, before_each), make)
            found |= dict(zip(places, maps, strict=True))
        return [found[place] for place in range(len(makers))]

    def heatmaps(
        self,
        make: Heatmap,
        chunks: ChunkSizes,
        before_each: Callable[[], None] = proceed,
    ) -> Tensor:
        """(P, H, W) heatmaps of the explained classes, inside `untouched(model)`."""
        if not len(self.images):
            return self.images.new_zeros(kind_of(self.images).locations(self.images))
        parts: dict[int, Tensor] = {}  # by the first image: a chunk may be made again
        asked = self.forward.model
        needs_rows = isinstance(asked, AskedNetwork) and asked.needs_rows
        size = chunks.backward if self.company is None else ChunkSize(self.company)
        make = for_texts(make) if are_texts(self.images) else make
        if needs_rows and not getattr(make, "keeps_rows", False):
            size = ChunkSize(1)  # nothing tells which images it asks for

        def work(start: int, end: int) -> None:
            # A copy: whoever made the heatmap may write into what it is given.
            images = self.images[start:end].clone()
            model = asked.of(start, end) if isinstance(asked, AskedNetwork) else asked
            # The next heatmap and the scores see the model as it was.
            shielded = nullcontext() if getattr(make, "isolates", False) else untouched(model)
            with shielded:
                relevance = relevance_of(make, model, images, self.target[start:end].clone())
            for one in maps_in(relevance, make):
                kind_of(images).check_heatmaps(one, images)
            parts[start] = relevance

        in_chunks(len(self.images), size, work, before_each, what=setting_text(make))
        return torch.cat([*parts.values()])


def _kept_by(
    score: Score, forward: Forward, target: Target
) -> Callable[[Tensor, slice], CleanAnswer]:
    """What makes of the outputs for some of the images what is kept of them."""
    if score != "segmentation":
        return lambda outputs, rows: outputs
    asked = forward.model
    has_sides = isinstance(asked, AskedNetwork) and asked.reading.sides is not None

    def kept(outputs: Tensor, rows: slice) -> PixelAnswers:
        of_rows = target[rows] if isinstance(target, Tensor) else target
        return PixelAnswers.of(outputs, of_rows, has_sides)

    return kept


def _answers(
    forward: Forward,
    images: Tensor,
    size: ChunkSize,
    before_each: Callable[[], None],
    kept: Callable[[Tensor, slice], CleanAnswer],
) -> list[CleanAnswer]:
    """What is kept of the answers to clean images, chunk by chunk."""
    parts: dict[int, CleanAnswer] = {}  # by the first image: a chunk may be made again

    def work(start: int, end: int) -> None:
        # A copy: a network that writes into what it is given must not reach the images.
        copy = images[start:end].clone(memory_format=forward.memory_format)
        outputs = forward(copy, torch.arange(start, end))
        if not are_finite(outputs):
            raise NotFiniteError("the model returned NaN or infinite numbers for clean images")
        parts[start] = kept(outputs, slice(start, end))

    in_chunks(len(images), size, work, before_each, what="clean images")
    return [*parts.values()]


def _check_company(company: int | None, explained: Explanations) -> None:
    if company is not None and explained.has_several:
        raise ValueError(
            "target names several classes of an image, and the model's answer to an image depends "
            "on the other images of its batch: give one class for each image"
        )
