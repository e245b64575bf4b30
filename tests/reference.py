"""Eq. 11 and 12 written as they stand, one input and one step at a time: slow, and the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn

from aopc_monitor.perturbation.noisy_linear import Imputation
from aopc_monitor.perturbation.regions import Grid
from aopc_monitor.perturbation.replacements import Replacement

# What each region is of an input: slices, or a mask.
Places = Sequence[tuple[slice | Tensor, ...]]


def regions_of(grid: Grid) -> list[tuple[slice, ...]]:
    """The part of each dimension that each region takes, counted along the last dimension."""
    firsts = [
        [margin + number * m for number in range(count)]
        for margin, count, m in zip(grid.margins, grid.counts, grid.sides, strict=True)
    ]
    return [
        tuple(slice(start, start + m) for start, m in zip(corner, grid.sides, strict=True))
        for corner in product(*firsts)
    ]


def places_in(region_of: Tensor) -> Places:
    """The same of a map `(*space)` of numbers."""
    return [(region_of == number,) for number in range(int(region_of.max()) + 1)]


def sequence(
    heatmap: Tensor, places: Places, order: str, keys: Tensor, relevance_is: str = "mean"
) -> list[int]:
    """Regions of one input in the order of perturbation, ties by `keys`."""
    sign = {"morf": -1.0, "lerf": 1.0, "random": 0.0}[order]
    values = [heatmap[place].double() for place in places]
    found = [float(of.mean() if relevance_is == "mean" else of.sum()) for of in values]
    return sorted(range(len(found)), key=lambda r: (sign * found[r], float(keys[r])))


def recursion(x: Tensor, order: list[int], replaced: Tensor, places: Places) -> list[Tensor]:
    """x^(0) ... x^(R) of one input `(C, *space)` or (F,): x^(k) = g(x^(k-1), r_k), eq. 11."""
    path = [x.clone()]
    for region in order:
        perturbed = path[-1].clone()
        place = (..., *places[region])
        perturbed[place] = replaced[place].to(perturbed.dtype)
        path.append(perturbed)
    return path


def curves_by_recursion(
    model: nn.Module,
    inputs: Tensor,
    heatmaps: Tensor,
    places: Sequence[Places],
    counts: Sequence[Sequence[int]],
    *,
    low: Tensor,
    high: Tensor,
    order: str,
    replacement: Replacement,
    repeats: int,
    seed: int,
    relevance_is: str = "mean",
) -> Tensor:
    """(N, L+1) curves of the probability; random numbers are drawn as the fast path draws them.

    Args:
        model: the network.
        inputs: of any kind.
        heatmaps: `(N, *space)`.
        places: the regions of each input.
        counts: how many of them each step perturbs, from 0 on, for each input.
    """
    generator = torch.Generator().manual_seed(seed)
    most = max(map(len, places))
    keys = torch.rand(len(inputs), most, generator=generator, dtype=torch.float64)
    replaced = replacement(inputs.repeat_interleave(repeats, 0), low, high, generator)
    curves = torch.zeros(len(inputs), len(counts[0]), dtype=torch.float64)
    with torch.no_grad():
        for n, x in enumerate(inputs):
            target = int(model(x[None]).argmax())
            chosen = sequence(heatmaps[n], places[n], order, keys[n], relevance_is)
            for repeat in range(repeats):
                noise = replaced[n * repeats + repeat]
                path = recursion(x, chosen, noise, places[n])
                if isinstance(replacement, Imputation):
                    black, white = torch.zeros_like(x), torch.ones_like(x)
                    masks = [m[None, :1] > 0 for m in recursion(black, chosen, white, places[n])]
                    known = [(x[None], mask, noise[None], low, high) for mask in masks]
                    path = [replacement.impute(*arguments)[0] for arguments in known]
                for step, k in enumerate(counts[n]):
                    score = model(path[k][None]).softmax(1)[0, target]
                    curves[n, step] += float(score) / repeats
    return curves


def aopc_by_recursion(
    model: nn.Module,
    images: Tensor,
    heatmaps: Tensor,
    *,
    region_size: int,
    steps: int,
    low: Tensor,
    high: Tensor,
    order: str,
    replacement: Replacement,
    repeats: int,
    seed: int,
) -> Tensor:
    """(N, L+1) curves under a grid, of images."""
    places = regions_of(Grid(images.shape[2:], region_size))
    count = len(images)
    return curves_by_recursion(
        model, images, heatmaps, [places] * count, [list(range(steps + 1))] * count, low=low,
        high=high, order=order, replacement=replacement, repeats=repeats, seed=seed,
    )  # fmt: skip
