"""How the answers of a network are read: which tensor of them is explained, and as what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from aopc_monitor.network.outputs import OutputFunction, Wanted, chosen_output, part_of
from aopc_monitor.network.scores import Score

Summary: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Reading:
    """How the answers of a network are read.

    Attributes:
        output_fn: from what it returns to its outputs; the usual choice if not given.
        sides: for one number per image, "logit" or "probability": it becomes a column for each
            side, 0 and 1, of which the larger one is the prediction. For one number per pixel,
            "opposite": that number is the logit of side 1, and its opposite that of side 0.
        wanted: which outputs are looked for; see `chosen_output`.
        summary: from outputs (M, ...) and what is kept of each one's clean image, (M, ...), to
            (M, classes); the outputs themselves if not given.
    """

    output_fn: OutputFunction | None = None
    sides: Literal["logit", "probability", "opposite"] | None = None
    wanted: Wanted = "classes"
    summary: Summary | None = None

    def outputs(self, answer: Any, num_images: int, kept: Tensor | None = None) -> Tensor:
        """(N, classes) outputs, or what else is wanted, on the graph of the answer.

        Example:
            >>> Reading(sides="logit").outputs(torch.tensor([3.0, -1.0]), num_images=2)
            tensor([[-1.5000,  1.5000],
                    [ 0.5000, -0.5000]])
        """
        outputs = chosen_output(self.chosen(answer), num_images, self.wanted).outputs
        if self.sides == "logit":  # the softmax over both columns is the sigmoid
            outputs = torch.cat([-outputs / 2, outputs / 2], dim=1)
        elif self.sides == "probability":
            outputs = torch.cat([1 - outputs, outputs], dim=1)
        elif self.sides == "opposite":
            outputs = torch.cat([-outputs, outputs], dim=1)
        return outputs if self.summary is None or kept is None else self.summary(outputs, kept)

    def chosen(self, answer: Any) -> Any:
        """The part of an answer that the user's function chooses."""
        return answer if self.output_fn is None else part_of(answer, self.output_fn)


def wanted_by(score: Score, num_dimensions: int) -> Wanted:
    """Which outputs a score is about, for inputs of so many dimensions.

    Example:
        >>> wanted_by("logit", 4), wanted_by("segmentation", 4)
        ('classes', 4)
    """
    if callable(score):
        return "any"
    return max(num_dimensions, 3) if score == "segmentation" else "classes"
