"""What a network says of images before anything is perturbed, and their heatmaps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from aopc_monitor.network.chunks import ChunkSizes, in_chunks, keep_freed_memory, proceed
from aopc_monitor.network.execution import Execution, Forward, TargetScore
from aopc_monitor.network.isolation import untouched
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
        forward: the network, as it is called for scores.
        outputs: (N, classes).
        target: (N,) the explained classes.
        score: f on (outputs, target).
        scores: (N,) f(x^(0)).
    """

    images: Tensor
    forward: Forward
    outputs: Tensor
    target: Tensor
    score: ScoreFunction
    scores: Tensor

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
    ) -> CleanBatch:
        """Evaluate the network on clean images, inside `untouched(model)`."""
        images = images.detach()
        if images.device.type == "cpu":
            keep_freed_memory()
        forward = Forward.of(model, images, execution)
        parts: list[Tensor] = []

        def work(start: int, end: int) -> None:
            # A copy: a network that writes into what it is given must not reach the images.
            copy = images[start:end].clone(memory_format=forward.memory_format)
            parts.append(forward(copy))

        with torch.no_grad():
            in_chunks(len(images), chunks.forward, work, before_each)
        outputs = torch.cat(parts)
        if not torch.isfinite(outputs).all():
            raise NotFiniteError("the model returned NaN or infinite numbers for clean images")
        if target is None:
            target = outputs.argmax(dim=1)
        else:
            check_target(target, len(images), outputs.shape[1])
            target = target.to(device=outputs.device, dtype=torch.long, copy=True)
        function = score_function(score, outputs)
        scores = checked_scores(function, outputs, target)
        if not torch.isfinite(scores).all():
            raise NotFiniteError("score gave NaN or infinite numbers for clean images")
        return cls(images, forward, outputs, target, function, scores)

    @property
    def score_of(self) -> TargetScore:
        """f: (images (M, C, H, W), index of each one's clean image (M,)) -> (M,)."""
        return TargetScore(self.forward, self.score, self.target)

    def heatmaps(
        self,
        make: Heatmap,
        model: nn.Module,
        chunks: ChunkSizes,
        before_each: Callable[[], None] = proceed,
    ) -> Tensor:
        """(N, H, W) heatmaps of the explained classes, inside `untouched(model)`."""
        parts: list[Tensor] = []

        def work(start: int, end: int) -> None:
            # A copy: whoever made the heatmap may write into what it is given.
            images = self.images[start:end].clone()
            # The next heatmap and the scores see the model as it was.
            shielded = nullcontext() if getattr(make, "isolates", False) else untouched(model)
            with shielded:
                relevance = make(model, images, self.target[start:end].clone())
            kind_of(images).check_heatmaps(relevance, images)
            parts.append(relevance)

        in_chunks(len(self.images), chunks.backward, work, before_each)
        return torch.cat(parts)
