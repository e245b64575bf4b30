"""f(x^(k)) of networks whose answer to an image depends on the others of its batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from aopc_monitor.network.chunks import ChunkSize, proceed
from aopc_monitor.network.execution import Forward
from aopc_monitor.perturbation.curve import perturbed_scores
from aopc_monitor.perturbation.found_scores import Scores
from aopc_monitor.perturbation.perturber import Perturber


def scores_in_company(
    score: Callable[[Tensor, Tensor], Tensor],
    perturber: Perturber,
    rank_maps: Sequence[Tensor],
    chunk_size: ChunkSize,
    before_each: Callable[[], None] = proceed,
    forward: Forward | None = None,
) -> Tensor:
    """Scores of all perturbed images, each among the same others as when it was not perturbed.

    For networks whose answer to an image depends on its batch: a forward holds one step of one
    repeat of each image of a group. A slow path of many small forwards.

    Args:
        score: as in `perturbed_scores`, and so are the others.
        perturber: the batch and how to perturb it.
        rank_maps: one (N, 1, H, W) map per order.
        chunk_size: images of a group, which go through the network together.
        before_each: called before each chunk; raises to stop.
        forward: what `score` asks.

    Returns:
        (orders, N, repeats, J).
    """
    images, replacement, generator = perturber.images, perturber.replacement, perturber.generator
    steps = perturber.steps.view(len(images), perturber.repeats, -1)
    scores = Scores(images.device, len(rank_maps), *steps.shape)
    company = chunk_size.size
    for start in range(0, len(images), company):
        group = slice(start, start + company)
        maps = [rank_map[group] for rank_map in rank_maps]
        of_group = partial(_shifted, score, start)
        for repeat in range(perturber.repeats):
            state = generator.get_state()
            for j in range(steps.shape[2]):
                if not replacement.fresh_each_step:  # all steps share a draw
                    generator.set_state(state)
                one = steps[group, repeat, j, None]
                part = perturber.of_group(group, one)
                found = perturbed_scores(
                    of_group, part, maps, chunk_size, before_each, forward=forward
                )
                scores.like(found[0, :, 0, 0])[:, group, repeat, j] = found[:, :, 0, 0]
    if chunk_size.size < company:
        warnings.warn(
            f"memory was short, so that images that see each other met only {chunk_size.size} at "
            "once: their scores are those of other batches",
            stacklevel=2,
        )
    return scores.found


def _shifted(
    score: Callable[[Tensor, Tensor], Tensor], start: int, perturbed: Tensor, image: Tensor
) -> Tensor:
    return score(perturbed, image + start)
