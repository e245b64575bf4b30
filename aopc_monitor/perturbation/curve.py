"""f(x^(k)) for many (image, step, repeat) at once.

Since x^(k) = where(rank < k, replacement, x), any set of (image, step, repeat) triples is one
`where` and one forward of a large chunk: no recursion over steps as in eq. 11 is needed, and none
over images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from aopc_monitor.network.chunks import ChunkSize, in_chunks, proceed, timed_on
from aopc_monitor.network.execution import Forward, Room, TargetScore
from aopc_monitor.perturbation.found_scores import Scores
from aopc_monitor.perturbation.input_kinds import rank_maps_of
from aopc_monitor.perturbation.perturbed_images import PerturbedImages
from aopc_monitor.perturbation.perturber import Block, Perturber
from aopc_monitor.perturbation.protocol import PerturbationProtocol
from aopc_monitor.perturbation.regions import Order
from aopc_monitor.perturbation.spans import Spans
from aopc_monitor.perturbation.walk import walk, walking
from aopc_monitor.utilities.checks import NotFiniteError, are_finite


def curves_of_orders(
    score: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    orders: Sequence[tuple[Tensor, Order]],
    protocol: PerturbationProtocol,
    generator: torch.Generator,
    chunk_size: ChunkSize,
    before_each: Callable[[], None] = proceed,
    forward: Forward | None = None,
    scores_of: Callable[..., Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The perturbation curves of a batch: f(x^(k)) of eq. 11, at the steps that are evaluated.

    All orders have the same ties, steps and draws, so that differences between them are paired.

    Args:
        score: f, see `perturbed_scores`.
        images: (N, C, H, W) clean images.
        orders: heatmaps (N, H, W) and which of their regions go first.
        protocol: how to perturb.
        generator: source of ties, steps and noise.
        chunk_size: images per forward.
        before_each: called before each chunk; raises to stop.
        forward: what `score` asks, if it is one; see `perturbed_scores`.
        scores_of: what finds the scores, `perturbed_scores` if not given.

    Returns:
        f(x^(k)), (orders, N, repeats, J), and k, (N, repeats, J). A score of D numbers each gives
        (orders, N, repeats, J, D).

    Raises:
        ValueError: for heatmaps that do not fit the images.
        NotFiniteError: for scores that are not finite.
    """
    regions = protocol.regions_of(images)
    rank_maps = rank_maps_of(images, orders, regions, generator)
    low, high = protocol.range_on(images)
    steps = protocol.strata.draw(len(images) * protocol.draws, generator, images.device)
    counts = protocol.perturbed_regions(steps, regions)
    perturber = Perturber(images, protocol.replacer, low, high, counts, protocol.draws, generator)
    how = (chunk_size, before_each, forward, scores_of)
    scores = finite_scores(score, perturber, rank_maps, *how)
    return scores, steps.view(scores.shape[1:4])


def scores_of_spans(
    score: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    rank_maps: Sequence[Tensor],
    spans: Spans,
    protocol: PerturbationProtocol,
    generator: torch.Generator,
    chunk_size: ChunkSize,
    forward: Forward | None = None,
    scores_of: Callable[..., Tensor] | None = None,
) -> Tensor:
    """Scores of images of which other parts of an order are perturbed than its beginning.

    Args:
        score: f, see `perturbed_scores`.
        images: (N, C, H, W) clean images.
        rank_maps: of each order, see `rank_maps_of`; all have the same draws.
        spans: (N, S) which ranks are perturbed.
        protocol: how to perturb; its steps are not looked at.
        generator: source of noise.
        chunk_size: images per forward.
        forward: what `score` asks, if it is one; see `perturbed_scores`.
        scores_of: what finds the scores, `perturbed_scores` if not given.

    Returns:
        (orders, N, S), means over the draws of a random replacement.

    Raises:
        NotFiniteError: for scores that are not finite.
    """
    low, high = protocol.range_on(images)
    count = spans.first.shape[1]
    numbers = torch.arange(count, device=images.device).expand(len(images) * protocol.draws, -1)
    given = (numbers, protocol.draws, generator, spans)
    perturber = Perturber(images, protocol.replacer, low, high, *given)
    how = (chunk_size, proceed, forward, scores_of)
    return finite_scores(score, perturber, rank_maps, *how).mean(dim=2)


def finite_scores(
    score: Callable[[Tensor, Tensor], Tensor],
    perturber: Perturber,
    rank_maps: Sequence[Tensor],
    chunk_size: ChunkSize,
    before_each: Callable[[], None],
    forward: Forward | None,
    scores_of: Callable[..., Tensor] | None,
) -> Tensor:
    """Scores (orders, N, repeats, J), found by a function such as `perturbed_scores`.

    Raises:
        NotFiniteError: if one is not finite.
    """
    with torch.no_grad():
        scores = (scores_of or perturbed_scores)(
            score, perturber, rank_maps, chunk_size, before_each, forward=forward
        )
    if not are_finite(scores):
        raise NotFiniteError("the model returned NaN or infinite scores for perturbed images")
    return scores


def perturbed_scores(
    score: Callable[[Tensor, Tensor], Tensor],
    perturber: Perturber,
    rank_maps: Sequence[Tensor],
    chunk_size: ChunkSize,
    before_each: Callable[[], None] = proceed,
    perturb: Callable[[Block, Tensor, Tensor], None] = Block.perturbed,
    forward: Forward | None = None,
) -> Tensor:
    """Scores of all perturbed images.

    All orders are evaluated on the same steps and draws, so that differences between them are
    paired.

    Args:
        score: (images (M, C, H, W), index of each one's clean image (M,)) -> scores (M,), or
            (M, D), several numbers of each. The images are overwritten afterwards.
        perturber: the batch and how to perturb it.
        rank_maps: one (N, 1, H, W) map per order.
        chunk_size: images per forward. Halved, down to one, for as long as memory does not suffice;
            where it has a search, a faster one is looked for.
        before_each: called before each chunk; raises to stop.
        perturb: writes a block under a rank map into images.
        forward: what `score` asks, for which chunks are laid out; contiguous if not given.

    Returns:
        (orders, N, repeats, J), or (orders, N, repeats, J, D).

    Raises:
        NotEnoughMemoryError: if memory does not suffice for a single image.
    """
    images, total = perturber.images, perturber.num_triples
    scores, what = Scores(images.device, len(rank_maps), total), f"{len(rank_maps)} orders"
    draws, room = perturber.draws(), Room(images, forward)
    asked = forward if perturb is Block.perturbed else None
    with walking(asked, draws, chunk_size) as are_walked:
        if are_walked and forward is not None:
            walk(score, forward, draws, rank_maps, chunk_size, before_each, room, scores)
        else:
            made = PerturbedImages(draws, rank_maps, room, perturb)
            ask, settle = asked_at_once(score, perturber.image, len(rank_maps))

            def work(start: int, end: int) -> None:
                with forward.in_use() if forward is not None else nullcontext():
                    # What is timed is one chunk.
                    chunks = made.of(start, end, is_timed=chunk_size.search is not None)
                    for order, (chunk, image) in enumerate(chunks):
                        found = ask(chunk, image)
                        scores.like(found)[order, start:end] = found

            in_chunks(total, chunk_size, work, before_each, timed_on(images), what)
            scores.found = settle(scores.found)
    shape = (len(rank_maps), len(images), perturber.repeats, perturber.steps.shape[1])
    return scores.found.view(*shape, *scores.found.shape[2:])


def asked_at_once(
    score: Callable[[Tensor, Tensor], Tensor], image: Tensor, orders: int
) -> tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """What to ask for each chunk, and what makes scores (orders, triples) of all answers.

    Small operations between forwards take ten times as long as those of all images at the end.

    Args:
        score: see `perturbed_scores`.
        image: (triples,) which image each one is of.
        orders: how many orders are evaluated.
    """
    if not isinstance(score, TargetScore) or not score.waits(orders * len(image)):
        return score, lambda found: found

    def settle(outputs: Tensor) -> Tensor:
        return score.of(outputs.flatten(0, 1), image.repeat(orders)).unflatten(0, (orders, -1))

    return score.forward, settle
