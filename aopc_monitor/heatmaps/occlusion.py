"""Occlusion: what the score loses when a region is replaced."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aopc_monitor.heatmaps.base import NetworkHeatmap
from aopc_monitor.heatmaps.engine.explained_network import Network
from aopc_monitor.network.chunks import ChunkSizes
from aopc_monitor.network.scores import Score, check_score, checked_scores, score_function
from aopc_monitor.perturbation.curve import perturbed_scores
from aopc_monitor.perturbation.data_range import DataRange
from aopc_monitor.perturbation.input_kinds import kind_of
from aopc_monitor.perturbation.perturber import Block, Perturber
from aopc_monitor.perturbation.protocol import PerturbationProtocol
from aopc_monitor.perturbation.regions import Regions
from aopc_monitor.perturbation.replacements import Constant, Replacement, get_replacement
from aopc_monitor.perturbation.steps import Strata
from aopc_monitor.utilities.checks import check_positive, check_target
from aopc_monitor.utilities.configured import plain_value
from aopc_monitor.utilities.randomness import generator_for


@dataclass(frozen=True)
class Occlusion(NetworkHeatmap):
    """Occlusion: f(x) minus f of x with one region replaced (Zeiler & Fergus 2014, section 4.2).

    Each pixel gets the difference of its region; the grid is that of the AOPC, and the remainder at
    the borders, which is in no region, gets 0. Regions are windows of series, boxes of volumes, and
    the features of tables. Signed. Needs no gradient. Costs R * repeats + 1
    forward passes per image, where R is the number of regions.

    Attributes:
        region_size: side of a region in pixels, one number or one per dimension; what suits the
            images if not given.
        replacement: what a region becomes: a name ("mean", the image's own mean colour, "blur",
            "uniform", "constant"), or a `Replacement`. For tables, whose features have no mean of
            their own, "mean" is 0, the mean of features that are standardised; "uniform" and
            "constant" suit any. For texts, "mean" is a vector of zeros.
        data_range: (low, high) of valid inputs, for replacements that need it: "uniform",
            "constant", and your own.
        score: what the network gives the class: its output if not given, or "probability",
            "logit", "log_probability", or a function (outputs, target) -> (N,).
        repeats: independent draws of a random replacement, over which the difference is averaged.
        seed: the same image gets the same draws under the same seed.
        chunk_size: images per forward pass; 64 if not given, fewer of large ones on a CPU.

    Raises:
        ValueError: for an unknown replacement or score, counts below 1, a region that is larger
            than the image, a replacement that is for other kinds of input, or a data range that is
            needed and missing.
        TypeError: for a replacement that is none.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten())
        >>> image = torch.tensor([[4.0, 0.0], [0.0, 0.0]]).repeat_interleave(2, 0)
        >>> image = image.repeat_interleave(2, 1)[None, None]
        >>> from aopc_monitor.perturbation import Constant
        >>> black = Constant(value=0.0)
        >>> Occlusion(region_size=2, replacement=black)(model, image, torch.tensor([0]))
        tensor([[[1., 1., 0., 0.],
                 [1., 1., 0., 0.],
                 [0., 0., 0., 0.],
                 [0., 0., 0., 0.]]])
    """

    region_size: int | Sequence[int] | None = None
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
        size = plain_value(self.region_size)
        object.__setattr__(self, "region_size", tuple(size) if isinstance(size, list) else size)
        for side in size if isinstance(size, (tuple, list)) else (size,):
            if side is not None:
                check_positive("region_size", side)
        for name in ("repeats", "chunk_size"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))

    def for_texts(self) -> Occlusion:
        """For word vectors: each token is a region, and becomes zero unless it was chosen else."""
        size = 1 if self.region_size is None else self.region_size
        replacement = Constant(0.0) if self.replacement == "mean" else self.replacement
        return dataclasses.replace(self, region_size=size, replacement=replacement)

    def relevance(self, network: Network, images: Tensor, target: Tensor) -> Tensor:
        """Differences of scores, spread over the regions' pixels."""
        # The draws of an image must not depend on what else is in its batch.
        alone = self._replacement_of(images).is_random
        size = 1 if alone else len(images)
        parts = zip(images.split(size), target.split(size), strict=True)
        with torch.no_grad():
            return torch.cat([self._differences(network, x, t) for x, t in parts])

    def _differences(self, network: Network, images: Tensor, target: Tensor) -> Tensor:
        kind, regions = kind_of(images), self._regions(images)
        # Regions come in reading order, and each is one step.
        counted = torch.arange(regions.num_regions, device=images.device).repeat(len(images), 1)
        ranks = regions.rank_map(counted)
        outputs = network.outputs(images.clone())
        target = target.to(outputs.device)
        check_target(target, *outputs.shape)
        score = _output if self.score is None else score_function(self.score, outputs)
        clean = checked_scores(score, outputs, target)

        def replaced_score(replaced: Tensor, image: Tensor) -> Tensor:
            return checked_scores(score, network.outputs(replaced), target[image])

        perturber = self._perturber(images, regions.num_regions)
        (scores,) = perturbed_scores(
            replaced_score,
            perturber,
            [kind.beside(ranks)],
            ChunkSizes.of(self.chunk_size, images).forward,
            perturb=Block.occluded,
        ).mean(dim=2)
        differences = (clean[:, None] - scores).to(images.dtype)
        padded = torch.cat([differences, torch.zeros_like(differences[:, :1])], dim=1)
        return padded.gather(1, ranks.long().flatten(1)).view_as(ranks)

    def _regions(self, images: Tensor) -> Regions:
        kind, size = kind_of(images), self.region_size
        return kind.regions(images, kind.suggested_region_size(images) if size is None else size)

    def _replacement_of(self, images: Tensor) -> Replacement:
        if self.replacement == "mean" and kind_of(images).name == "tables":
            return Constant(0.0)
        return get_replacement(self.replacement)

    def _perturber(self, images: Tensor, num_regions: int) -> Perturber:
        replaced_by = self._replacement_of(images)
        protocol = PerturbationProtocol(self.region_size, 1, self.data_range, replaced_by)
        try:
            protocol = protocol.for_inputs(images)
        except ValueError as error:  # the AOPC has a replacement of its own, which is not meant
            raise ValueError(f"occlusion: {error}") from error
        replacement, (low, high) = protocol.replacer, protocol.range_on(images)
        generator = generator_for(images, self.seed, "occlusion")
        repeats = self.repeats if replacement.is_random else 1
        every_region = Strata(num_regions, num_regions)
        steps = every_region.draw(len(images) * repeats, generator, images.device)
        return Perturber(images, replacement, low, high, steps, repeats, generator)


def _output(outputs: Tensor, target: Tensor) -> Tensor:
    return outputs.gather(1, target[:, None])[:, 0]
