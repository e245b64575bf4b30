"""Random subsets of features, pixels or regions, and images from which they are removed.

What sensitivity-n (`aopc_monitor.metrics.functional.sensitivity_n`) correlates relevance over.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor

from aopc_monitor.heatmaps.baseline import Baseline, baseline_images
from aopc_monitor.network.execution import Execution
from aopc_monitor.network.scores import Score, check_score
from aopc_monitor.perturbation.input_kinds import kind_of
from aopc_monitor.perturbation.regions import Grid
from aopc_monitor.utilities.checks import check_positive
from aopc_monitor.utilities.statistics import accumulator_dtype

Sizes: TypeAlias = "int | Iterable[int]"
Removal: TypeAlias = "Baseline | Literal['mean']"


def subset_sizes(num_features: int, count: int = 10, largest: float = 0.8) -> list[int]:
    """Log-spaced sizes n from 1 to a share of all features.

    Ancona et al. 2018 let n go from one to about 80 % of the features.

    Args:
        num_features: number of pixels, or of regions.
        count: how many sizes; fewer where rounding makes some equal.
        largest: the last size as a share of all features.

    Example:
        >>> subset_sizes(256, count=5)
        [1, 4, 14, 54, 205]
    """
    last = max(1, round(largest * num_features))
    exponents = (step / max(1, count - 1) for step in range(count))
    return sorted({round(last**exponent) for exponent in exponents})


def random_subsets(sizes: Tensor, num_features: int, generator: torch.Generator) -> Tensor:
    """Independent uniform subsets of features.

    Args:
        sizes: (M,) number of features in each.
        num_features: R, the number of features.
        generator: source of the subsets.

    Returns:
        (M, R) whether each feature is in, on the generator's device.

    Example:
        >>> random_subsets(torch.tensor([2, 5]), 9, torch.Generator()).sum(dim=1)
        tensor([2, 5])
    """
    device = generator.device
    shape, dtype = (len(sizes), num_features), accumulator_dtype(device)
    keys = torch.rand(shape, generator=generator, device=device, dtype=dtype)
    subsets = torch.zeros(shape, device=device, dtype=torch.bool)
    for size in sizes.unique().tolist():
        rows = (sizes == size).nonzero()[:, 0].to(device)
        members = keys[rows].topk(size, dim=1, sorted=False).indices
        subsets[rows[:, None], members] = True
    return subsets


@dataclass(frozen=True)
class SubsetChoices:
    """The choices that a correlation is measured under, checked.

    Attributes:
        n: number of features in a subset, or several.
        subsets: random subsets per image and n.
        region_size: side of a feature in pixels.
        baseline: what removed features become: a number, one per channel, a (C, H, W) tensor, or
            "mean".
        score: "logit", "probability", "log_probability", "sigmoid", or (outputs, target) -> (N,).
        execution: how forwards are carried out.

    Raises:
        ValueError: for a value that no images could fit.
    """

    n: Sizes
    subsets: int
    region_size: int
    baseline: Removal
    score: Score
    execution: Execution

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", _checked_sizes(self.n))
        if not isinstance(self.subsets, int) or self.subsets < 3:
            raise ValueError(
                f"subsets={self.subsets!r} must be a whole number of at least 3: any two points "
                "lie on a line"
            )
        baseline = self.baseline
        if isinstance(baseline, str) and baseline != "mean":
            raise ValueError(f'baseline={baseline!r} is unknown: give "mean", numbers or a tensor')
        if not isinstance(baseline, str) and not torch.as_tensor(baseline).isfinite().all():
            raise ValueError(f"baseline={baseline!r} is not finite: give finite numbers")
        check_positive("region_size", self.region_size)
        check_score(self.score)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The K sizes n."""
        return cast("tuple[int, ...]", self.n)

    @property
    def key(self) -> tuple[Any, ...]:
        """What two metrics must agree on; the text of a tensor would leave numbers out."""
        baseline = self.baseline
        values = baseline if isinstance(baseline, str) else torch.as_tensor(baseline).tolist()
        precision = self.execution.autocast
        return self.sizes, self.subsets, values, self.region_size, self.score, precision

    def grid(self, images: Tensor) -> Grid:
        """The grid of features on these images.

        Raises:
            ValueError: if there are fewer features than are to be removed.
        """
        kind = kind_of(images)
        grid = kind.regions(images, self.region_size)
        if max(self.sizes) > grid.num_regions:
            of_feature, of_input = kind.sizes_text(grid)
            raise ValueError(
                f"n={max(self.sizes)} is more than the {grid.num_regions} features of {of_feature} "
                f"{kind.unit} that {kind.name} of {of_input} have: use at most that many, or a "
                "smaller region_size"
            )
        return grid

    def removed(self, images: Tensor) -> Tensor:
        """(N, C, H, W) images of which all features are removed."""
        if isinstance(self.baseline, str):
            return kind_of(images).channel_means(images)
        return baseline_images(self.baseline, images)


@dataclass(frozen=True)
class SubsetRemover:
    """Removes random subsets of features from a batch, the subset running fastest, then n.

    Attributes:
        images: (N, C, H, W).
        removed: (N, C, H, W) images of which all features are removed.
        relevance: (N, R) relevance of the features, as a share of the largest magnitude.
        grid: which pixels are a feature.
        sizes: (K,) the sizes n.
        subsets: S, random subsets per image and n.
        generator: source of the subsets.
    """

    images: Tensor
    removed: Tensor
    relevance: Tensor
    grid: Grid
    sizes: Tensor
    subsets: int
    generator: torch.Generator

    @classmethod
    def of(
        cls, images: Tensor, heatmaps: Tensor, choices: SubsetChoices, generator: torch.Generator
    ) -> SubsetRemover:
        """For images (N, C, H, W) and their heatmaps (N, H, W).

        Raises:
            ValueError: for choices that do not fit the images.
        """
        grid = choices.grid(images)
        sizes = torch.tensor(choices.sizes, device=images.device)
        return cls(
            images,
            choices.removed(images),
            _relative_relevance(kind_of(images).relevance(heatmaps, grid)),
            grid,
            sizes,
            choices.subsets,
            generator,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Images, sizes and subsets: (N, K, S)."""
        return len(self.images), len(self.sizes), self.subsets

    def chunk(self, start: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
        """Some triples' image (M,), summed relevance (M,) and perturbed image (M, C, H, W)."""
        triples = torch.arange(start, end, device=self.images.device)
        image = triples // (len(self.sizes) * self.subsets)
        size = self.sizes[triples // self.subsets % len(self.sizes)]
        subset = random_subsets(size, self.grid.num_regions, self.generator)
        subset = subset.to(self.images.device)
        sums = (self.relevance[image] * subset).sum(dim=1)
        mask = kind_of(self.images).mask(subset, self.grid)
        return image, sums, torch.where(mask, self.removed[image], self.images[image])


def _relative_relevance(relevance: Tensor) -> Tensor:
    """(N, R) relevance as a share of its largest magnitude, on which no correlation depends.

    That of a constant heatmap is 1 or -1, and its sums are whole numbers, exactly equal.
    """
    largest = relevance.abs().amax(dim=1, keepdim=True)
    return relevance / torch.where(largest > 0, largest, 1)


def _checked_sizes(n: Sizes) -> tuple[int, ...]:
    try:
        sizes = tuple(map(operator.index, n if isinstance(n, Iterable) else [n]))
    except TypeError:
        sizes = ()
    if not sizes or min(sizes) < 1 or len(set(sizes)) < len(sizes):
        raise ValueError(
            f"n={n!r} must be a whole number of at least 1, or several different ones: see "
            "subset_sizes"
        )
    return sizes
