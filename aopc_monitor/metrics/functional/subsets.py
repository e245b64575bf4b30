"""Random subsets of features, pixels or regions, and images from which they are removed.

What sensitivity-n (`aopc_monitor.metrics.functional.sensitivity_n`) correlates relevance over.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor

from aopc_monitor.heatmaps.baseline import Baseline, baseline_images
from aopc_monitor.network.execution import Execution
from aopc_monitor.network.scores import Score, check_score
from aopc_monitor.network.token_marks import zeroed
from aopc_monitor.perturbation.input_batch import InputBatch
from aopc_monitor.perturbation.input_kinds import kind_of, regions_of
from aopc_monitor.perturbation.region_map import checked_region_size, given_regions
from aopc_monitor.perturbation.regions import Regions
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


def random_subsets(sizes: Tensor, num_features: int | Tensor, generator: torch.Generator) -> Tensor:
    """Independent uniform subsets of features.

    Args:
        sizes: (M,) number of features in each.
        num_features: R, the number of features, or (M,) of each, R being the largest.
        generator: source of the subsets.

    Returns:
        (M, R) whether each feature is in, on the generator's device.

    Example:
        >>> random_subsets(torch.tensor([2, 5]), 9, torch.Generator()).sum(dim=1)
        tensor([2, 5])
    """
    device = generator.device
    numbers = torch.as_tensor(num_features, device=device).expand(len(sizes))
    shape, dtype = (len(sizes), int(numbers.max())), accumulator_dtype(device)
    keys = torch.rand(shape, generator=generator, device=device, dtype=dtype)
    # Features that there are not come last.
    keys = keys.masked_fill(torch.arange(shape[1], device=device) >= numbers[:, None], -1.0)
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
        region_size: side of a feature, a number or one per dimension; 1 if not given.
        baseline: what removed features become: a number, one per channel, a (C, H, W) tensor, or
            "mean"; vectors of zeros in texts.
        score: "logit", "probability", "log_probability", "sigmoid", or (outputs, target) -> (N,).
        execution: how forwards are carried out.
        regions: features of your own, as in `PerturbationProtocol`.

    Raises:
        ValueError: for a value that no images could fit.
    """

    n: Sizes
    subsets: int
    region_size: int | Sequence[int] | None
    baseline: Removal
    score: Score
    execution: Execution
    regions: Any = None

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
        object.__setattr__(self, "regions", given_regions(self.regions))
        size = checked_region_size(self.region_size, self.regions)
        if size is None and self.regions is None:
            size = 1
        object.__setattr__(self, "region_size", size)
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
        size = self.region_size if self.regions is None else self.regions
        return self.sizes, self.subsets, values, size, self.score, precision

    def for_batch(self, batch: InputBatch) -> SubsetChoices:
        """The choices for a batch, whose words are its features unless others were given."""
        if batch.words is None or self.regions is not None:
            return self
        return replace(self, regions=batch.words, region_size=None)

    def regions_of(self, images: Tensor) -> Regions:
        """The features of these images.

        Raises:
            ValueError: if there are fewer features than are to be removed.
        """
        kind = kind_of(images)
        regions = regions_of(images, self.region_size, self.regions, relevance_is="sum")
        numbers = regions.numbers
        fewest = regions.num_regions if numbers is None else int(numbers.min())
        if max(self.sizes) > fewest:
            raise ValueError(
                f"n={max(self.sizes)} is more than the {fewest} "
                f"{regions.text('features', kind.unit)} that {kind.name} of "
                f"{kind.extent_text(images)} have: use at most that many, or smaller features"
            )
        return regions

    def removed(self, images: Tensor) -> Tensor:
        """(N, C, H, W) images of which all features are removed."""
        if not kind_of(images).is_dense:
            if isinstance(self.baseline, (int, float)) and self.baseline == 0:
                return zeroed(images)
            raise ValueError(
                f"baseline={self.baseline!r}: removed words become vectors of zeros, so leave "
                "baseline out"
            )
        if isinstance(self.baseline, str):
            kind = kind_of(images)
            if not kind.has_channels:
                raise ValueError(
                    f'baseline="mean" leaves {kind.name} as they are, each feature being its own '
                    "mean: give numbers, one for each feature"
                )
            return kind.channel_means(images)
        return baseline_images(self.baseline, images)


@dataclass(frozen=True)
class SubsetRemover:
    """Removes random subsets of features from a batch, the subset running fastest, then n.

    Attributes:
        images: (N, C, H, W).
        removed: (N, C, H, W) images of which all features are removed.
        regions: the features.
        sizes: (K,) the sizes n.
        subsets: S, random subsets per image and n.
        generator: source of the subsets.
    """

    images: Tensor
    removed: Tensor
    regions: Regions
    sizes: Tensor
    subsets: int
    generator: torch.Generator

    @classmethod
    def of(
        cls, images: Tensor, choices: SubsetChoices, generator: torch.Generator
    ) -> SubsetRemover:
        """For images (N, C, H, W).

        Raises:
            ValueError: for choices that do not fit the images.
        """
        sizes = torch.tensor(choices.sizes, device=images.device)
        removed, regions = choices.removed(images), choices.regions_of(images)
        return cls(images, removed, regions, sizes, choices.subsets, generator)

    def relevance(self, heatmaps: Tensor) -> Tensor:
        """(N, R) relevance of the features as a share of its largest magnitude.

        No correlation depends on that. Relevance of a constant heatmap is 1 or -1, and its sums are
        whole numbers, exactly equal.
        """
        relevance = self.regions.relevance(heatmaps)
        largest = relevance.abs().amax(dim=1, keepdim=True)
        return relevance / torch.where(largest > 0, largest, 1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Images, sizes and subsets: (N, K, S)."""
        return len(self.images), len(self.sizes), self.subsets

    def chunk(self, start: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
        """Some triples' image (M,), subset (M, R) and perturbed image (M, C, H, W)."""
        triples = torch.arange(start, end, device=self.images.device)
        image = triples // (len(self.sizes) * self.subsets)
        size = self.sizes[triples // self.subsets % len(self.sizes)]
        numbers = self.regions.numbers
        features = self.regions.num_regions if numbers is None else numbers[image]
        subset = random_subsets(size, features, self.generator)
        subset = subset.to(self.images.device)
        mask = kind_of(self.images).beside(self.regions.mask(subset, image))
        return image, subset, torch.where(mask, self.removed[image], self.images[image])


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
