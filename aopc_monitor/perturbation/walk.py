"""Perturbed images one step after another, for a network that answers by what has changed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from aopc_monitor.network.chunks import ChunkSize, in_chunks
from aopc_monitor.network.execution import Forward, Room
from aopc_monitor.perturbation.found_scores import Scores
from aopc_monitor.perturbation.perturber import Block, Draws, Perturber

# The share of steps that have to change a single region: of the others, whole forwards are made.
LEAST_SINGLE = 0.75
_LOGGER = logging.getLogger("aopc_monitor")


def is_for_walking(forward: Forward | None, draws: Draws) -> bool:
    """Whether to go from step to step; says in the log, once, why not where that was asked for."""
    if forward is None or not forward.answers.in_sequence:
        return False
    of = draws.perturber
    reason = None
    if draws.fixed is None:
        reason = f"{type(of.replacement).__name__} draws anew at each step"
    elif of.imputation is not None:
        reason = f"{type(of.replacement).__name__} changes whole images at each step"
    elif _share_of_single_regions(of) < LEAST_SINGLE:
        reason = "steps that follow upon one another differ by more than a region"
    if reason is not None:
        _tell(reason)
    return reason is None


def walk(
    score: Callable[[Tensor, Tensor], Tensor],
    draws: Draws,
    rank_maps: Sequence[Tensor],
    chunk_size: ChunkSize,
    before_each: Callable[[], None],
    room: Room,
    scores: Scores,
) -> None:
    """Find the scores of all steps of some images, in turn, and then of others.

    Args:
        score: see `perturbed_scores`, as for all others.
        draws: the batch, how to perturb it, and replacements that all steps share.
        rank_maps: one (N, 1, H, W) map per order.
        chunk_size: images per forward.
        before_each: called before each forward; raises to stop.
        room: for perturbed images.
        scores: (orders, triples), where they are written.
    """
    of, fixed = draws.perturber, draws.fixed
    count, number = of.steps.shape
    if fixed is None:
        raise ValueError("replacements that are drawn at each step have no steps in turn")

    def work(start: int, end: int) -> None:
        rows = torch.arange(start, end, device=of.images.device)
        image, replaced, chunk = rows // of.repeats, fixed[start:end], room.of(end - start)
        for order, rank_map in enumerate(rank_maps):
            for step in range(number):
                before_each()
                block = Block(of, image, of.steps[start:end, step], replaced)
                block.perturbed(rank_map, chunk)
                found = score(chunk, image)
                scores.like(found)[order, rows * number + step] = found

    in_chunks(count, chunk_size, work, what=f"{len(rank_maps)} orders")


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
