"""Occlusion: what the score loses when a region is replaced."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aopc_monitor.heatmaps.base import NetworkHeatmap
from aopc_monitor.heatmaps.engine.explained_network import Network
from aopc_monitor.network.chunks import ChunkSizes
from aopc_monitor.network.scores import Score, check_score, checked_scores, score_function
from aopc_monitor.perturbation.curve import Block, Perturber, perturbed_scores
from aopc_monitor.perturbation.data_range import DataRange, data_range_tensors
from aopc_monitor.perturbation.regions import Grid, suggested_region_size
from aopc_monitor.perturbation.replacements import (
    Blur,
    Constant,
    Mean,
    Replacement,
    get_replacement,
)
from aopc_monitor.perturbation.steps import Strata
from aopc_monitor.utilities.checks import check_positive, check_target
from aopc_monitor.utilities.randomness import generator_for


@dataclass(frozen=True)
class Occlusion(NetworkHeatmap):
    """Occlusion: f(x) minus f of x with one region replaced (Zeiler & Fergus 2014, section 4.2).

    Each pixel gets the difference of its region; the grid is that of the AOPC, and the remainder at
    the borders, which is in no region, gets 0. Signed. Needs no gradient. Costs R * repeats + 1
    forward passes per image, where R is the number of regions.

    Attributes:
        region_size: side of a region in pixels; `suggested_region_size` of the images if not given.
        replacement: what a region becomes: a name ("mean", the image's own mean colour, "blur",
            "uniform", "constant"), or a `Replacement`.
        data_range: (low, high) of valid inputs, for replacements that need it: "uniform",
            "constant", and your own.
        score: what the network gives the class: its output if not given, or "probability",
            "logit", "log_probability", or a function (outputs, target) -> (N,).
        repeats: independent draws of a random replacement, over which the difference is averaged.
        seed: the same image gets the same draws under the same seed.
        chunk_size: images per forward pass; 64 if not given, fewer of large ones on a CPU.

    Raises:
        ValueError: for an unknown replacement or score, counts below 1, a region that is larger
            than the image, or a data range that is needed and missing.
        TypeError: for a replacement that is none.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten())
        >>> image = torch.tensor([[4.0, 0.0], [0.0, 0.0]]).repeat_interleave(2, 0)
        >>> image = image.repeat_interleave(2, 1)[None, None]
        >>> black = Constant(value=0.0)
        >>> Occlusion(region_size=2, replacement=black)(model, image, torch.tensor([0]))
        tensor([[[1., 1., 0., 0.],
                 [1., 1., 0., 0.],
                 [0., 0., 0., 0.],
                 [0., 0., 0., 0.]]])
    """

    region_size: int | None = None
    replacement: str | Replacement = "mean"
    data_range: DataRange | None = None
    score: Score | None = None
    repeats: int = 1
    seed: int = 0
    chunk_size: int | None = None

    def __post_init__(self) -> None:
        get_replacement(self.replacement)
        if self.score is not None:
            check_score(self.score)
        for name in ("region_size", "repeats", "chunk_size"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))

    def relevance(self, network: Network, images: Tensor, target: Tensor) -> Tensor:
        """Differences of scores, spread over the regions' pixels."""
        # The draws of an image must not depend on what else is in its batch.
        alone = get_replacement(self.replacement).is_random
        size = 1 if alone else len(images)
        parts = zip(images.split(size), target.split(size), strict=True)
        with torch.no_grad():
            return torch.cat([self._differences(network, x, t) for x, t in parts])

    def _differences(self, network: Network, images: Tensor, target: Tensor) -> Tensor:
        grid = self._grid(images)
        # Regions come in reading order, and each is one step.
        regions = grid.rank_map(_counted(len(images), grid.num_regions, images.device))[:, None]
        outputs = network.outputs(images.clone())
        target = target.to(outputs.device)
        check_target(target, *outputs.shape)
        score = _output if self.score is None else score_function(self.score, outputs)
        clean = checked_scores(score, outputs, target)

        def replaced_score(replaced: Tensor, image: Tensor) -> Tensor:
            return checked_scores(score, network.outputs(replaced), target[image])

        perturber = self._perturber(images, grid)
        (scores,) = perturbed_scores(
            replaced_score,
            perturber,
            [regions],
            ChunkSizes.of(self.chunk_size, images).forward,
            perturb=Block.occluded,
        ).mean(dim=2)
        differences = (clean[:, None] - scores).to(images.dtype)
        padded = torch.cat([differences, torch.zeros_like(differences[:, :1])], dim=1)
        return padded.gather(1, regions.long().flatten(1)).view_as(images[:, 0])

    def _grid(self, images: Tensor) -> Grid:
        extent = images.shape[2:]
        return Grid(extent, self.region_size or suggested_region_size(*extent))

    def _perturber(self, images: Tensor, grid: Grid) -> Perturber:
        replacement = get_replacement(self.replacement)
        given = self.data_range
        if given is None and _needs_no_range(replacement):
            given = (0.0, 1.0)  # read by nobody
        low, high = (
            bound.to(images.device) for bound in data_range_tensors(given, images.shape[1])
        )
        generator = generator_for(images, self.seed, "occlusion")
        repeats = self.repeats if replacement.is_random else 1
        every_region = Strata(grid.num_regions, grid.num_regions)
        steps = every_region.draw(len(images) * repeats, generator, images.device)
        return Perturber(images, replacement, low, high, steps, repeats, generator)


def _counted(num_images: int, num_regions: int, device: torch.device) -> Tensor:
    return torch.arange(num_regions, device=device).repeat(num_images, 1)


def _needs_no_range(replacement: Replacement) -> bool:
    if isinstance(replacement, Constant):
        return replacement.value is not None
    return isinstance(replacement, (Blur, Mean))


def _output(outputs: Tensor, target: Tensor) -> Tensor:
    return outputs.gather(1, target[:, None])[:, 0]
