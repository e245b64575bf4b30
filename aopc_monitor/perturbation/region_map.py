"""Regions of the user's own: superpixels, organs, groups of sensors, words.

A map of whole numbers tells which region each location is in. Regions may have any shape and any
size, and each input may have its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor

from aopc_monitor.perturbation.regions import ranks_of
from aopc_monitor.utilities.checks import check_positive, plain_tensor
from aopc_monitor.utilities.configured import imported, is_path, plain_value
from aopc_monitor.utilities.randomness import content_of
from aopc_monitor.utilities.statistics import accumulator_dtype

# From inputs to their map `(N, *space)`.
RegionFunction: TypeAlias = "Callable[[Tensor], Any]"
RegionRelevance = Literal["mean", "sum"]
NEVER = -1


class GivenRegions:
    """A map of regions as the user gave it, `(*space)` for all inputs or `(N, *space)`.

    Two of equal numbers are equal, and its text tells maps apart without listing them.

    Args:
        regions: a tensor, an array or nested lists of whole numbers.

    Raises:
        TypeError: for numbers that are not whole.
        ValueError: for a map without a number, or below -1.

    Example:
        >>> GivenRegions([0, 0, 1]) == GivenRegions(torch.tensor([0, 0, 1]))
        True
    """

    def __init__(self, regions: Any) -> None:
        numbers = regions if isinstance(regions, Tensor) else torch.as_tensor(regions)
        if numbers.numel() == 0 or numbers.ndim == 0:
            raise ValueError(
                f"regions has shape {tuple(numbers.shape)}; wanted is one number per location, "
                "(*space) for all inputs or (N, *space)"
            )
        if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
            raise TypeError(
                f"regions holds {numbers.dtype}; wanted are whole numbers: the region of each "
                "location, from 0 on, and -1 where nothing is ever perturbed"
            )
        self.numbers = plain_tensor(numbers).detach().long()
        if (self.numbers < NEVER).any():
            raise ValueError(
                f"regions holds {int(self.numbers.min())}; wanted are numbers from 0 on, and -1 "
                "where nothing is ever perturbed"
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GivenRegions) and torch.equal(
            self.numbers.cpu(), other.numbers.cpu()
        )

    def __hash__(self) -> int:
        return content_of(self.numbers)

    def __repr__(self) -> str:
        return f"GivenRegions({tuple(self.numbers.shape)}, {content_of(self.numbers):x})"


@dataclass(frozen=True, eq=False)
class RegionMap:
    """The region of each location of each input, as `Grid` is for regions of one size.

    Attributes:
        region_of: `(N, *space)` the region of each location, -1 where none is.
        counts: (N,) the number of regions of each input, R_i.
        are_shared: whether one map was given for all inputs.
        relevance_is: "mean" or "sum" of the heatmap over a region.

    Example:
        >>> regions = RegionMap.of(GivenRegions([[0, 0, 1, -1], [0, 1, 2, 2]]), (2, 4))
        >>> regions.num_regions, regions.numbers
        (3, tensor([2, 3]))
        >>> regions.relevance(torch.tensor([[1.0, 3.0, 5.0, 9.0], [1.0, 1.0, 2.0, 4.0]]))
        tensor([[2., 5., 0.],
                [1., 1., 3.]], dtype=torch.float64)
    """

    region_of: Tensor
    counts: Tensor
    are_shared: bool
    relevance_is: RegionRelevance = "mean"

    @classmethod
    def of(
        cls,
        given: GivenRegions,
        locations: tuple[int, ...],
        device: torch.device | str = "cpu",
        relevance_is: RegionRelevance = "mean",
    ) -> RegionMap:
        """The map for inputs whose heatmaps have the shape `(N, *space)`.

        Args:
            given: `(*space)` or `(N, *space)`.
            locations: `(N, *space)`.
            device: of the inputs.
            relevance_is: "mean" or "sum".

        Raises:
            ValueError: for a map of another shape, numbers that skip one, or an input of which no
                location may be perturbed.
        """
        numbers, space = given.numbers, locations[1:]
        are_shared = numbers.shape == space
        if not are_shared and numbers.shape != locations:
            raise ValueError(
                f"regions has shape {tuple(numbers.shape)}; wanted is {space} for all inputs, or "
                f"{locations}, one map for each"
            )
        one_each = numbers.unsqueeze(0) if are_shared else numbers
        counts = _checked_counts(one_each)
        return cls(
            one_each.to(device).expand(locations),
            counts.to(device).expand(locations[0]),
            are_shared,
            relevance_is,
        )

    @property
    def num_regions(self) -> int:
        """R, the largest number of regions of an input."""
        return int(self.counts.max())

    @property
    def numbers(self) -> Tensor | None:
        """(N,) R_i; None if all inputs share one map."""
        return None if self.are_shared else self.counts

    def relevance(self, heatmaps: Tensor) -> Tensor:
        """(N, R) mean, or sum, of heatmaps `(N, *space)` over each region.

        In double precision, and a mean exactly equal to numbers that are all equal. Regions that an
        input does not have get 0.
        """
        values = heatmaps.flatten(1).to(accumulator_dtype(heatmaps.device))
        # Locations of no region go into a column of their own, which is left out.
        columns, shape = self._columns(), (len(values), self.num_regions + 1)
        if self.relevance_is == "sum":
            return _sums(values, columns, shape)[:, :-1]
        # Distances from the smallest number of the region, which are exactly 0 if all are equal.
        least = values.new_zeros(shape).scatter_reduce(
            1, columns, values, "amin", include_self=False
        )
        sums = _sums(values - least.gather(1, columns), columns, shape)
        sizes = _sums(torch.ones_like(values), columns, shape)
        return (least + sums / sizes.clamp_min(1))[:, :-1]

    def rank_map(self, order: Tensor) -> Tensor:
        """`(N, *space)` rank of each location, from the order (N, R); R where no region is."""
        ranks = ranks_of(order)
        outside = ranks.new_full((len(ranks), 1), self.num_regions)
        spread = torch.cat([ranks, outside], dim=1).gather(1, self._columns())
        return spread.view(self.region_of.shape)

    def mask(self, chosen: Tensor, image: Tensor) -> Tensor:
        """`(M, *space)` which locations are in the chosen regions (M, R) of the inputs (M,)."""
        nowhere = torch.zeros_like(chosen[:, :1])
        spread = torch.cat([chosen, nowhere], dim=1).gather(1, self._columns()[image])
        return spread.view(len(chosen), *self.region_of.shape[1:])

    def text(self, noun: str = "regions", unit: str = "") -> str:
        """How many each input has; they have no size in common."""
        least, most = int(self.counts.min()), self.num_regions
        whose = "" if noun == "words" else " of your own"
        return f"{noun}{whose} ({least if least == most else f'{least} to {most}'} each)"

    def _columns(self) -> Tensor:
        """(N, locations) the region of each, and R where none is."""
        flat = self.region_of.flatten(1)
        return torch.where(flat == NEVER, self.num_regions, flat)


def given_regions(regions: Any) -> RegionFunction | GivenRegions | None:
    """Regions of the user's own, as a function or a checked map; also by a dotted path."""
    if is_path(regions):
        regions = imported(str(regions), "regions")
    if regions is None or callable(regions) or isinstance(regions, GivenRegions):
        return cast("RegionFunction | GivenRegions | None", regions)
    return GivenRegions(regions)


def checked_region_size(region_size: Any, regions: Any) -> int | tuple[int, ...] | None:
    """The size of regions, a number or one per dimension; None if it was not given.

    Raises:
        ValueError: for what is no whole number from 1 on, or beside regions of the user's own.
    """
    region_size = plain_value(region_size)
    if regions is not None and region_size is not None:
        raise ValueError(
            f"region_size={region_size!r} and regions are both given: leave one of them out"
        )
    if isinstance(region_size, Sequence) and not isinstance(region_size, str):
        for side in region_size:
            check_positive("region_size", side)
        return tuple(region_size)
    if region_size is not None:
        check_positive("region_size", region_size)
    return cast("int | None", region_size)


def check_relevance_is(name: str) -> None:
    """Raise ValueError unless the relevance of a region may be made so."""
    known = get_args(RegionRelevance)
    if name not in known:
        raise ValueError(
            f"region_relevance={name!r} is unknown: choose one of {', '.join(known)} of the "
            "heatmap over the region"
        )


def _checked_counts(region_of: Tensor) -> Tensor:
    """(N,) numbers of regions of maps `(N, *space)`, of which none may be skipped."""
    flat = region_of.flatten(1)
    counts = flat.amax(dim=1) + 1
    if (counts == 0).any():
        raise ValueError(
            f"regions is -1 everywhere in input {int((counts == 0).nonzero()[0])}, so that nothing "
            "of it may be perturbed: number at least one region, or leave such inputs out"
        )
    shape = (len(flat), int(counts.max()) + 1)
    is_there = torch.zeros(shape, dtype=torch.bool, device=flat.device)
    is_there.scatter_(1, torch.where(flat == NEVER, shape[1] - 1, flat), True)
    wanted = torch.arange(shape[1], device=flat.device) < counts[:, None]
    gaps = (wanted & ~is_there).nonzero()
    if len(gaps):
        image, number = gaps[0].tolist()
        raise ValueError(
            f"regions skips number {number} in input {image}, which has regions up to "
            f"{int(counts[image]) - 1}: number them from 0 without a gap, for instance by "
            "torch.unique(..., return_inverse=True)"
        )
    return counts


def _sums(values: Tensor, columns: Tensor, shape: tuple[int, int]) -> Tensor:
    """Sums of values (N, locations) that go into the same columns of the shape (N, columns)."""
    rows = torch.arange(shape[0], device=columns.device)[:, None] * shape[1]
    flat = values.new_zeros(shape[0] * shape[1])
    # One dimension, for which there is an order of summation that does not change.
    return flat.index_add_(0, (columns + rows).flatten(), values.flatten()).view(shape)
