"""How small and how large the AOPC of an image can be, whatever the heatmap: by beam search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aopc_monitor.metrics.functional.clean_batch import CleanBatch
from aopc_monitor.metrics.functional.opening import opened
from aopc_monitor.metrics.moved_arguments import telling_what_moved
from aopc_monitor.network.chunks import ChunkSizes, ChunkSizesByNetwork, in_chunks
from aopc_monitor.network.execution import Execution, checked_execution
from aopc_monitor.network.scores import Score, checked_scores
from aopc_monitor.perturbation.data_range import DataRange
from aopc_monitor.perturbation.input_batch import InputBatch
from aopc_monitor.perturbation.input_kinds import kind_of
from aopc_monitor.perturbation.protocol import PerturbationProtocol, StepIs
from aopc_monitor.perturbation.replacements import Replacement
from aopc_monitor.utilities.checks import check_network, check_positive, check_target
from aopc_monitor.utilities.randomness import generator_for
from aopc_monitor.utilities.statistics import accumulator_dtype


@dataclass(frozen=True)
class AOPCBounds:
    """The least and the greatest AOPC that the search found for each image.

    Attributes:
        lower: (N,) area under the order that keeps the score highest.
        upper: (N,) area under the order that lets it fall fastest.
        forwards: number of images that went through the network.
    """

    lower: Tensor
    upper: Tensor
    forwards: int

    def normalized(self, per_image: Tensor) -> Tensor:
        """AOPC as a share of what is possible: 0 at the lower bound, 1 at the upper.

        Args:
            per_image: (N,) areas measured under the same choices.

        Returns:
            (N,); NaN for an image whose score no order changes. A heatmap may do better than a beam
            that is too narrow, so that values a little outside 0 to 1 occur.
        """
        room = self.upper - self.lower
        return torch.where(room > 0, (per_image.to(room) - self.lower) / room, float("nan"))


@telling_what_moved
def aopc_bounds(
    model: nn.Module,
    images: Tensor | Mapping[str, Any],
    *,
    region_size: int | Sequence[int] | None = None,
    steps: int,
    data_range: DataRange | None = None,
    replacement: str | Replacement | None = None,
    score: Score = "probability",
    regions: Any = None,
    step_is: StepIs | None = None,
    beam_size: int = 1,
    target: Tensor | None = None,
    inputs: Any = (),
    execution: Execution | None = None,
    generator: torch.Generator | None = None,
) -> AOPCBounds:
    """Search the orders of regions for the least and the greatest AOPC (Edin et al. 2025).

    AOPCs of two networks do not compare, since one may fall whatever is perturbed and the other
    not. As a share of what is possible for the network they do: normalized AOPC.

    The search goes along the steps and keeps the `beam_size` best sets of regions; 1 is the greedy
    search. It costs about 2 * N * beam_size * steps * R forwards: nothing for a training run.

    Args:
        model: network that returns (N, classes), or an object with that as `.logits`.
        images: (N, C, H, W) floating point, as the network sees them; or another kind of
            input: series (N, C, L), volumes (N, C, D, H, W), tables (N, F), token ids (N, T), or
            a mapping with these as `input_ids`.
        region_size: side m of the regions, a number or one per dimension.
        steps: L, how many regions are perturbed.
        data_range: (low, high) of valid inputs, numbers or one per channel, where the replacement
            needs it.
        replacement: what regions become: "mean", "blur", "constant", or a `Replacement`; if not
            given, "mean", and "zero" for texts. A random
            one is drawn once per image: a search would else find the luckiest noise.
        score: "probability", "logit", "log_probability", "sigmoid" (independent labels, or one
            number per image), "value" (of a regression), "segmentation" (mean logit of a class over
            the pixels that have it), or (outputs, target) -> (N,).
        regions: regions of your own in the place of a grid, as in `area_over_perturbation_curve`.
        step_is: "region" or "share", as there.
        beam_size: sets that are kept at each step.
        target: (N,) explained class; the prediction on the clean image if not given.
        inputs: what `forward` takes after the images: a tensor, several in a tuple, or by name.
        execution: how forwards are carried out; see `Execution`. If no chunk size is given, 64
            images at once, fewer of large ones on a CPU (16 of 224 x 224) and of what memory takes.
        generator: source of the one draw; one of its own if not given, the same for these images.

    Raises:
        TypeError: for images or outputs of the wrong type.
        ValueError: for a wrong shape, device or value; the message names the argument.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        >>> images = torch.rand(3, 1, 8, 8)
        >>> bounds = aopc_bounds(model, images, region_size=4, steps=3, data_range=(0.0, 1.0))
        >>> bool((bounds.lower <= bounds.upper).all())
        True
    """
    check_network(model)
    batch = InputBatch.of(images, inputs)
    check_positive("beam_size", beam_size)
    if target is not None:
        check_target(target, len(batch.images))
    execution = checked_execution(execution)
    if replacement is None and kind_of(batch.images).is_dense:
        replacement = "mean"
    protocol = PerturbationProtocol(
        region_size, steps, data_range, replacement, score=score, regions=regions, step_is=step_is
    )
    protocol = batch.protocol(protocol)
    sizes = ChunkSizesByNetwork(execution.chunk_size, False)
    low, high = protocol.range_on(batch.images)
    given = (score, execution, sizes)
    made = opened(model, batch.images, *given, target=target, inputs=batch.inputs)
    with made as (clean, images, chunks), torch.no_grad():
        replaced = protocol.replacer(
            clean.images.clone(), low, high, generator or generator_for(images, 0, "bounds")
        )
        ranks, weights = _regions_and_steps(images, protocol)
        results = []
        for n in range(len(images)):
            scores = _scores_of_sets(clean, n, replaced[n], ranks[n], chunks)
            results.append([_search(scores, weights[n], beam_size, sign) for sign in (1, -1)])
    totals = [torch.stack([total for total, _ in pair]) for pair in results]
    areas = _areas(clean.scores, torch.stack(totals), weights, steps)
    forwards = len(images) + sum(count for pair in results for _, count in pair)
    return AOPCBounds(areas[:, 0], areas[:, 1], forwards)


def _areas(clean: Tensor, sums: Tensor, weights: list[list[int]], steps: int) -> Tensor:
    """(N, 2) areas, from (N, 2) sums of the scores of all steps at which something is perturbed."""
    sums = sums.to(clean.device)
    perturbing = torch.tensor([sum(of_image[1:]) for of_image in weights]).to(sums)
    return (perturbing[:, None] * clean[:, None] - sums) / (steps + 1)


def _regions_and_steps(
    images: Tensor, protocol: PerturbationProtocol
) -> tuple[list[Tensor], list[list[int]]]:
    """The region of each location, and at how many steps so many regions are perturbed, by image.

    Locations of no region have the number R_i of the image's regions.
    """
    regions, steps = protocol.regions_of(images), torch.arange(1, protocol.steps + 1)
    every = torch.arange(regions.num_regions, device=images.device).expand(len(images), -1)
    counts = protocol.perturbed_regions(steps.expand(len(images), -1), regions)
    numbers = regions.numbers
    if numbers is None:
        numbers = counts.new_full((len(images),), regions.num_regions)
    maps = [
        of_image.long().clamp_max(int(number))
        for of_image, number in zip(regions.rank_map(every), numbers, strict=True)
    ]
    pairs = zip(counts, numbers.tolist(), strict=True)
    return maps, [torch.bincount(k, minlength=number + 1).tolist() for k, number in pairs]


def _scores_of_sets(
    clean: CleanBatch,
    n: int,
    replaced: Tensor,
    region_of: Tensor,
    chunks: ChunkSizes,
) -> Callable[[Tensor], Tensor]:
    """A function from (S, R + 1) sets of perturbed regions to (S,) scores of one image."""

    def scores(sets: Tensor) -> Tensor:
        sets = sets.to(replaced.device)
        found = torch.empty(len(sets), dtype=accumulator_dtype(sets.device), device=sets.device)

        def work(start: int, end: int) -> None:
            with clean.forward.in_use():
                perturbed = kind_of(clean.images).beside(sets[start:end][:, region_of])
                rows = torch.full((end - start,), n)
                outputs = clean.forward(torch.where(perturbed, replaced, clean.images[n]), rows)
                target = clean.target[n].expand(end - start)
                found[start:end] = checked_scores(clean.score, outputs, target)

        in_chunks(len(sets), chunks.forward, work)
        return found.cpu()

    return scores


def _search(
    scores: Callable[[Tensor], Tensor], weights: list[int], beam_size: int, sign: int
) -> tuple[Tensor, int]:
    """The best sum of scores over the steps, greatest for sign 1 and least for -1, and its cost.

    Args:
        scores: of sets of regions.
        weights: at how many steps 0, 1, ..., R regions are perturbed.
        beam_size: sets that are kept.
        sign: what is best.
    """
    total = len(weights) - 1
    last = max((k for k, weight in enumerate(weights) if weight), default=0)
    sets = torch.zeros(1, total + 1, dtype=torch.bool)
    sums = torch.zeros(1, dtype=torch.float64)
    forwards = 0
    for weight in weights[1 : last + 1]:
        beam, region = (~sets[:, :total]).nonzero(as_tuple=True)
        candidates = sets[beam]
        candidates[torch.arange(len(region)), region] = True
        found = scores(candidates).to(sums)
        candidate_sums = sums[beam] + weight * found
        forwards += len(candidates)
        best = (sign * candidate_sums).argsort(descending=True, stable=True)
        kept = _first_of_each_set(candidates, best, beam_size)
        sets, sums = candidates[kept], candidate_sums[kept]
    return (sign * sums).max() * sign, forwards


def _first_of_each_set(sets: Tensor, order: Tensor, count: int) -> Tensor:
    """The first sets in an order, each once: two ways to one set would narrow the beam."""
    kept: list[int] = []
    seen: set[bytes] = set()
    for position in order.tolist():
        key = sets[position].numpy().tobytes()
        if key not in seen:
            seen.add(key)
            kept.append(position)
        if len(kept) == count:
            break
    return torch.tensor(kept)
