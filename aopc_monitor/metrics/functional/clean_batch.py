"""What a network says of images before anything is perturbed, and their heatmaps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from aopc_monitor.network.asked import AskedNetwork, asked_for
from aopc_monitor.network.chunks import (
    MOST_BACKWARD,
    ChunkSize,
    ChunkSizes,
    in_chunks,
    keep_freed_memory,
    proceed,
)
from aopc_monitor.network.execution import Execution, Forward, TargetScore
from aopc_monitor.network.further_inputs import Inputs
from aopc_monitor.network.isolation import untouched
from aopc_monitor.network.outputs import OutputFunction
from aopc_monitor.network.scores import Score, ScoreFunction, checked_scores, score_function
from aopc_monitor.perturbation.input_kinds import kind_of
from aopc_monitor.utilities.checks import NotFiniteError, check_target

if TYPE_CHECKING:
    from aopc_monitor.heatmaps import Heatmap


@dataclass(frozen=True)
class CleanBatch:
    """A batch and what the network says of it before anything is perturbed.

    Attributes:
        images: (N, C, H, W).
        forward: the network as it is asked, and called for scores.
        outputs: (N, classes).
        target: (N,) the explained classes.
        score: f on (outputs, target).
        scores: (N,) f(x^(0)).
        company: images that go through the network together, where they see each other; None where
            an image's answer is its own.
    """

    images: Tensor
    forward: Forward
    outputs: Tensor
    target: Tensor
    score: ScoreFunction
    scores: Tensor
    company: int | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        images: Tensor,
        score: Score,
        execution: Execution,
        chunks: ChunkSizes,
        target: Tensor | None = None,
        before_each: Callable[[], None] = proceed,
        output_fn: OutputFunction | None = None,
        inputs: Inputs = (),
    ) -> CleanBatch:
        """Evaluate the network on clean images, inside `untouched(model)`.

        Args:
            model: the network.
            images: (N, C, H, W).
            score: what f is.
            execution: how forwards are carried out.
            chunks: images at once.
            target: (N,) the explained classes; the predictions if not given.
            before_each: called before each chunk; raises to stop.
            output_fn: from what the network returns to (N, classes).
            inputs: what its forward takes after the images, one row for each image.

        Raises:
            ForwardError: if the network cannot be asked at all.
        """
        images = images.detach()
        if images.device.type == "cpu":
            keep_freed_memory()
        asked = asked_for(model, images, score, output_fn, inputs, before_each)
        before_each()
        company = MOST_BACKWARD if asked.images_meet else None
        forward = Forward.of(asked.network, images, execution)
        size = chunks.forward if company is None else ChunkSize(company)
        with asked.explaining_errors(images), torch.no_grad():
            outputs = _outputs(forward, images, size, before_each)
        if not torch.isfinite(outputs).all():
            raise NotFiniteError("the model returned NaN or infinite numbers for clean images")
        if target is None:
            target = outputs.argmax(dim=1)
        else:
            check_target(target, len(images), outputs.shape[1])
            target = target.to(device=outputs.device, dtype=torch.long, copy=True)
        function = score_function(asked.score, outputs)
        scores = checked_scores(function, outputs, target)
        if not torch.isfinite(scores).all():
            raise NotFiniteError("score gave NaN or infinite numbers for clean images")
        return cls(images, forward, outputs, target, function, scores, company)

    @property
    def score_of(self) -> TargetScore:
        """f: (images (M, C, H, W), index of each one's clean image (M,)) -> (M,)."""
        return TargetScore(self.forward, self.score, self.target)

    def chunk_size(self, chunks: ChunkSizes) -> ChunkSize:
        """Images of one forward: as many as the chunks say, or all that see each other."""
        return chunks.forward if self.company is None else ChunkSize(self.company)

    def heatmaps(
        self,
        make: Heatmap,
        chunks: ChunkSizes,
        before_each: Callable[[], None] = proceed,
    ) -> Tensor:
        """(N, H, W) heatmaps of the explained classes, inside `untouched(model)`."""
        parts: list[Tensor] = []
        asked = self.forward.model
        has_inputs = isinstance(asked, AskedNetwork) and bool(asked.inputs)
        size = chunks.backward if self.company is None else ChunkSize(self.company)
        if has_inputs and not getattr(make, "keeps_rows", False):
            size = ChunkSize(1)  # nothing tells which images it asks for

        def work(start: int, end: int) -> None:
            # A copy: whoever made the heatmap may write into what it is given.
            images = self.images[start:end].clone()
            model = asked.of(start, end) if isinstance(asked, AskedNetwork) else asked
            # The next heatmap and the scores see the model as it was.
            shielded = nullcontext() if getattr(make, "isolates", False) else untouched(model)
            with shielded:
                relevance = make(model, images, self.target[start:end].clone())
            kind_of(images).check_heatmaps(relevance, images)
            parts.append(relevance)

        in_chunks(len(self.images), size, work, before_each)
        return torch.cat(parts)


def _outputs(
    forward: Forward, images: Tensor, size: ChunkSize, before_each: Callable[[], None]
) -> Tensor:
    """(N, classes) answers to clean images."""
    parts: list[Tensor] = []

    def work(start: int, end: int) -> None:
        # A copy: a network that writes into what it is given must not reach the images.
        copy = images[start:end].clone(memory_format=forward.memory_format)
        parts.append(forward(copy, torch.arange(start, end)))

    in_chunks(len(images), size, work, before_each)
    return torch.cat(parts)
