"""Perturbed images one step after another, for a network that answers by what has changed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from aopc_monitor.network.backends.planned import Planned
from aopc_monitor.network.chunks import ChunkSize, in_chunks
from aopc_monitor.network.execution import Forward, Room
from aopc_monitor.perturbation.found_scores import Scores
from aopc_monitor.perturbation.perturber import Block, Draws, Perturber

# The share of steps that have to change a single region: of the others, whole forwards are made.
LEAST_SINGLE = 0.75
# Of a stretch: its first forward is a whole one.
LEAST_STEPS = 6
_LOGGER = logging.getLogger("aopc_monitor")


def walking(
    forward: Forward | None, draws: Draws, chunk_size: ChunkSize
) -> AbstractContextManager[bool]:
    """For the time in which scores are found: whether to go from step to step.

    Says in the log, once, why not where that was asked for.
    """
    if forward is None:
        return nullcontext(False)
    answers, reason = forward.answers, _reason_against(draws)
    if isinstance(answers, Planned):
        steps = draws.perturber.steps.shape[1]
        return nullcontext(False) if reason else answers.walking(steps, chunk_size.size)
    if answers.in_sequence and reason is not None:
        _tell(reason)
    return nullcontext(answers.in_sequence and reason is None)


def _reason_against(draws: Draws) -> str | None:
    """Why there are no steps to walk; None if there are."""
    of = draws.perturber
    if draws.fixed is None:
        return f"{type(of.replacement).__name__} draws anew at each step"
    if of.imputation is not None:
        return f"{type(of.replacement).__name__} changes whole images at each step"
    if _share_of_single_regions(of) < LEAST_SINGLE:
        return "steps that follow upon one another differ by more than a region"
    return None


def walk(
    score: Callable[[Tensor, Tensor], Tensor],
    forward: Forward,
    draws: Draws,
    rank_maps: Sequence[Tensor],
    chunk_size: ChunkSize,
    before_each: Callable[[], None],
    room: Room,
    scores: Scores,
) -> None:
    """Find the scores of all steps of some images, in turn, and then of others.

    Of few images, stretches of steps are walked at the same time, so that as many go through the
    network at once.

    Args:
        score: see `perturbed_scores`, as for all others.
        forward: what it asks.
        draws: the batch, how to perturb it, and replacements that all steps share.
        rank_maps: one (N, 1, H, W) map per order.
        chunk_size: images per forward.
        before_each: called before each forward; raises to stop.
        room: for perturbed images.
        scores: (orders, triples), where they are written.
    """
    of, fixed = draws.perturber, draws.fixed
    if fixed is None:
        raise ValueError("replacements that are drawn at each step have no steps in turn")
    count, number = of.steps.shape
    device, done = of.images.device, 0

    def go(stretches: Stretches, start: int, end: int) -> None:
        draw, first = stretches.rows(start, end, device)
        image, replaced, chunk = draw // of.repeats, fixed[draw], room.of(end - start)
        for order, rank_map in enumerate(rank_maps):
            for step in range(stretches.length):
                before_each()
                block = Block(of, image, of.steps[draw, first + step], replaced)
                with forward.in_use():
                    block.perturbed(rank_map, chunk)
                    found = score(chunk, image)
                scores.like(found)[order, draw * number + first + step] = found

    while done < count:
        stretches = Stretches.of(done, count, number, chunk_size.size)
        what = f"{len(rank_maps)} orders"
        in_chunks(len(stretches), chunk_size, partial(go, stretches), what=what)
        done += stretches.draws


@dataclass(frozen=True)
class Stretches:
    """Steps of some draws, cut into stretches that are walked at the same time.

    All stretches of a draw have one length, so that the last two may share steps.

    Attributes:
        first: the first of these draws.
        draws: their number.
        steps: of a draw.
        length: steps of a stretch.
    """

    first: int
    draws: int
    steps: int
    length: int

    @classmethod
    def of(cls, first: int, count: int, steps: int, most: int) -> Stretches:
        """As many of the draws from a first one on as go at once; of few, several stretches each.

        Args:
            first: the first draw.
            count: of all draws.
            steps: of a draw.
            most: stretches at once.

        Example:
            >>> Stretches.of(0, 100, steps=32, most=16)
            Stretches(first=0, draws=16, steps=32, length=32)
            >>> Stretches.of(96, 100, steps=32, most=16)
            Stretches(first=96, draws=4, steps=32, length=8)
        """
        draws = min(most, count - first)
        each = max(1, min(most // draws, steps // LEAST_STEPS))
        return cls(first, draws, steps, -(-steps // each))

    @property
    def each(self) -> int:
        """Stretches of a draw."""
        return -(-self.steps // self.length)

    def __len__(self) -> int:
        return self.draws * self.each

    def rows(self, start: int, end: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Of the stretches from a start to an end, the draws and the first steps (M,).

        Example:
            >>> Stretches(first=2, draws=1, steps=5, length=3).rows(0, 2, torch.device("cpu"))
            (tensor([2, 2]), tensor([0, 2]))
        """
        stretch = torch.arange(start, end, device=device)
        begins = (stretch % self.each * self.length).clamp(max=self.steps - self.length)
        return self.first + stretch // self.each, begins


def _share_of_single_regions(of: Perturber) -> float:
    """Of all steps but the first, how many change no more than one region."""
    if of.spans is None:
        changed = of.steps.diff(dim=1).abs()
    elif of.spans.share is None:
        changed = of.spans.first.diff(dim=1).abs() + of.spans.last.diff(dim=1).abs()
    else:
        return 0.0
    return float((changed <= 1).float().mean()) if changed.numel() else 0.0


@cache
def _tell(reason: str) -> None:
    _LOGGER.info('backend="incremental" computes whole forwards: %s', reason)
