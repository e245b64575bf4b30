"""Eq. 11 and 12 written as they stand, one image and one step at a time: slow, and the oracle."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aopc_monitor.perturbation.noisy_linear import Imputation
from aopc_monitor.perturbation.regions import Grid
from aopc_monitor.perturbation.replacements import Replacement


def regions_of(grid: Grid) -> list[tuple[slice, slice]]:
    """Rows and columns of each region, counted along rows."""
    m = grid.region_size
    return [
        (
            slice(grid.top + row * m, grid.top + (row + 1) * m),
            slice(grid.left + column * m, grid.left + (column + 1) * m),
        )
        for row in range(grid.rows)
        for column in range(grid.columns)
    ]


def sequence(heatmap: Tensor, grid: Grid, order: str, keys: Tensor) -> list[int]:
    """Regions of one image in the order of perturbation, ties by `keys`."""
    sign = {"morf": -1.0, "lerf": 1.0, "random": 0.0}[order]
    means = [float(heatmap[region].double().mean()) for region in regions_of(grid)]
    return sorted(range(len(means)), key=lambda r: (sign * means[r], float(keys[r])))


def recursion(
    image: Tensor, order: list[int], steps: int, replaced: Tensor, grid: Grid
) -> list[Tensor]:
    """x^(0) ... x^(L) of one image (C, H, W): x^(k) = g(x^(k-1), r_k), eq. 11."""
    places = regions_of(grid)
    images = [image.clone()]
    for k in range(1, steps + 1):
        perturbed = images[-1].clone()
        rows, columns = places[order[k - 1]]
        perturbed[:, rows, columns] = replaced[:, rows, columns]
        images.append(perturbed)
    return images


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
    """(N, L+1) curves of the probability; random numbers are drawn as the fast path draws them."""
    generator = torch.Generator().manual_seed(seed)
    grid = Grid(images.shape[2], images.shape[3], region_size)
    keys = torch.rand(len(images), grid.num_regions, generator=generator, dtype=torch.float64)
    replaced = replacement(images.repeat_interleave(repeats, 0), low, high, generator)
    curves = torch.zeros(len(images), steps + 1, dtype=torch.float64)
    with torch.no_grad():
        for n, image in enumerate(images):
            target = int(model(image[None]).argmax())
            chosen = sequence(heatmaps[n], grid, order, keys[n])
            for repeat in range(repeats):
                noise = replaced[n * repeats + repeat]
                path = recursion(image, chosen, steps, noise, grid)
                if isinstance(replacement, Imputation):
                    black, white = torch.zeros_like(image), torch.ones_like(image)
                    masks = [m[None, :1] > 0 for m in recursion(black, chosen, steps, white, grid)]
                    known = [(image[None], mask, noise[None], low, high) for mask in masks]
                    path = [replacement.impute(*arguments)[0] for arguments in known]
                for k, x in enumerate(path):
                    curves[n, k] += float(model(x[None]).softmax(1)[0, target]) / repeats
    return curves
