"""Where: the regions of an input, their relevance, and the order of perturbation.

Samek et al. 2017, section III: a heatmap induces an ordered sequence of locations (eq. 9 and 10),
here the cells of a non-overlapping grid. Pure tensor functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, Protocol, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from aopc_monitor.utilities.configured import plain_value
from aopc_monitor.utilities.error_text import unknown_name
from aopc_monitor.utilities.statistics import accumulator_dtype

Order = Literal["morf", "lerf", "random"]
ORDERS: tuple[str, ...] = get_args(Order)

# What inputs of so many dimensions are called, and what these are counted in.
SPACES = {1: ("series", "time steps"), 2: ("images", "pixels"), 3: ("volumes", "voxels")}
AVERAGES = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


class Regions(Protocol):
    """The regions that the inputs of a batch are cut into; `*space` are their locations."""

    @property
    def num_regions(self) -> int:
        """R, the number of regions; the largest one if each input has its own."""

    @property
    def numbers(self) -> Tensor | None:
        """(N,) the number of regions of each input; None if all have the same regions."""

    def relevance(self, heatmaps: Tensor) -> Tensor:
        """(N, R) relevance of each region, of heatmaps `(N, *space)`."""

    def rank_map(self, order: Tensor) -> Tensor:
        """`(N, *space)` rank of each location, from the order (N, R) of regions.

        A location in no region has rank R, which no step reaches.
        """

    def mask(self, chosen: Tensor, image: Tensor) -> Tensor:
        """`(M, *space)` which locations are in the chosen regions (M, R) of the inputs (M,)."""

    def text(self, noun: str = "regions", unit: str = "") -> str:
        """What they are called in messages."""


@dataclass(frozen=True)
class Grid:
    """Non-overlapping regions of one size, centred; the remainder at the borders is free.

    Attributes:
        extent: of an input along each dimension: (height, width) of an image in pixels, (length,)
            of a series in time steps, (depth, height, width) of a volume in voxels.
        region_size: of a region, one number for all dimensions or one for each.

    Raises:
        ValueError: if a region is smaller than one location or larger than the input.

    Example:
        >>> grid = Grid(extent=(32, 32), region_size=9)
        >>> grid.counts, grid.num_regions, grid.margins
        ((3, 3), 9, (2, 2))
        >>> Grid((16, 112, 112), (4, 14, 14)).num_regions
        256
    """

    extent: tuple[int, ...]
    region_size: int | Sequence[int]

    def __post_init__(self) -> None:
        extent, given = tuple(self.extent), plain_value(self.region_size)
        name, unit = SPACES[len(extent)]
        size = tuple(given) if isinstance(given, Sequence) else (given,) * len(extent)
        if len(size) != len(extent):
            raise ValueError(
                f"region_size={given!r} has {len(size)} numbers for {name}, which have "
                f"{len(extent)} dimensions: give one number for all dimensions, or one for each"
            )
        if not all(1 <= m <= side for m, side in zip(size, extent, strict=True)):
            is_one = len(set(size)) == 1
            wanted = f"a whole number from 1 to {min(extent)}" if is_one else "smaller ones"
            raise ValueError(
                f"region_size={size[0] if is_one else size} does not fit {name} of "
                f"{' x '.join(map(str, extent))} {unit}: give {wanted}"
            )
        object.__setattr__(self, "extent", extent)
        object.__setattr__(self, "region_size", size)

    @property
    def sides(self) -> tuple[int, ...]:
        """Extent of a region along each dimension."""
        return cast("tuple[int, ...]", self.region_size)

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of regions along each dimension."""
        return tuple(side // m for side, m in zip(self.extent, self.sides, strict=True))

    @property
    def margins(self) -> tuple[int, ...]:
        """Locations before the first region along each dimension."""
        sizes = zip(self.extent, self.counts, self.sides, strict=True)
        return tuple((side - count * m) // 2 for side, count, m in sizes)

    @property
    def num_regions(self) -> int:
        """R, the number of regions."""
        return prod(self.counts)

    @property
    def numbers(self) -> None:
        """All inputs have the same regions."""
        return

    def inside(self) -> tuple[slice, ...]:
        """The part of each dimension that regions cover."""
        sizes = zip(self.margins, self.counts, self.sides, strict=True)
        return tuple(slice(first, first + count * m) for first, count, m in sizes)

    def relevance(self, heatmaps: Tensor) -> Tensor:
        """Mean of the heatmap over each region.

        The mean is taken in double precision, so that equal locations give exactly equal regions
        and a rounding error never decides the order.

        Args:
            heatmaps: `(N, *extent)`.

        Returns:
            (N, R), regions counted with the last dimension running fastest.

        Example:
            >>> Grid((4, 4), 2).relevance(torch.eye(4)[None])
            tensor([[0.5000, 0.0000, 0.0000, 0.5000]], dtype=torch.float64)
        """
        covered = heatmaps[(slice(None), *self.inside())]
        covered = covered.to(accumulator_dtype(heatmaps.device)).unsqueeze(1)
        return AVERAGES[len(self.extent)](covered, self.sides).flatten(1)

    def rank_map(self, order: Tensor) -> Tensor:
        """Each location's position in the order: step k perturbs exactly those of rank < k.

        Args:
            order: (N, R) region indices from `perturbation_order`.

        Returns:
            `(N, *extent)` int16, or int32 for more regions than that can count. Locations outside
            all regions have rank R, which no step reaches.

        Example:
            >>> Grid((1, 3), 1).rank_map(torch.tensor([[2, 0, 1]]))
            tensor([[[1, 2, 0]]], dtype=torch.int16)
        """
        return self._spread(ranks_of(order), outside=self.num_regions)

    def mask(self, chosen: Tensor, image: Tensor | None = None) -> Tensor:
        """`(M, *extent)` which locations are in the chosen regions (M, R)."""
        return self._spread(chosen, outside=False)

    def text(self, noun: str = "regions", unit: str = "") -> str:
        """Their size."""
        unit = unit.removesuffix("s") if self.sides == (1,) else unit
        return f"{noun} of {' x '.join(map(str, self.sides))} {unit}".rstrip()

    def _spread(self, values: Tensor, outside: int | bool) -> Tensor:
        """`(N, *extent)` of (N, R) values of regions."""
        cells = values.view(-1, *self.counts)
        for dimension, m in enumerate(self.sides, start=1):
            cells = cells.repeat_interleave(m, dimension)
        if cells.shape[1:] == self.extent:
            return cells
        full = cells.new_full((len(cells), *self.extent), outside)
        full[(slice(None), *self.inside())] = cells
        return full


def suggested_region_size(*extent: int) -> int:
    """A region size that suits an image: 4 pixels at 32 x 32, 9 (the paper's) at 224 x 224.

    It grows with the square root of the shorter side, or of the length of a series, so that larger
    ones get both larger regions and more of them.

    Example:
        >>> [suggested_region_size(side, side) for side in (28, 32, 64, 224)]
        [3, 4, 5, 9]
        >>> suggested_region_size(1000)
        20
    """
    return max(1, round(0.62 * min(extent) ** 0.5))


def suggested_box(*extent: int) -> tuple[int, ...]:
    """A region size that suits a volume, one number per dimension, since these often differ.

    It grows so that there are about as many regions as in an image of these sides.

    Example:
        >>> suggested_box(32, 32, 32), suggested_box(16, 112, 112)
        ((7, 7, 7), (5, 17, 17))
    """
    return tuple(max(1, round(0.73 * side ** (2 / 3))) for side in extent)


def check_order(order: str) -> None:
    """Raise ValueError unless the order is known."""
    if order not in ORDERS:
        raise ValueError(unknown_name("order", order, ORDERS))


def perturbation_order(relevance: Tensor, order: Order, tie_breakers: Tensor) -> Tensor:
    """Regions in the order in which they are perturbed (eq. 10).

    Regions of equal relevance follow their tie breakers; the random order follows nothing else. A
    constant heatmap therefore has exactly the random order that the same tie breakers give.

    Args:
        relevance: (N, R).
        order: "morf" (most relevant first), "lerf" (least relevant first) or "random".
        tie_breakers: (N, R) independent uniform random numbers.

    Returns:
        (N, R) region indices; column k - 1 is the region of step k.

    Raises:
        ValueError: for an unknown order.

    Example:
        >>> relevance = torch.tensor([[0.1, 0.9, 0.5]])
        >>> perturbation_order(relevance, "morf", torch.rand(1, 3))
        tensor([[1, 2, 0]])
    """
    check_order(order)
    shuffled = tie_breakers.argsort(dim=1)
    return shuffled if order == "random" else by_relevance(relevance, order, shuffled)


def by_relevance(relevance: Tensor, order: Order, shuffled: Tensor) -> Tensor:
    """The regions (N, R) of the random order, by their relevance (N, R); see `perturbation_order`.

    Example:
        >>> by_relevance(torch.tensor([[0.1, 0.9, 0.5]]), "lerf", torch.tensor([[2, 1, 0]]))
        tensor([[0, 2, 1]])
    """
    places = relevance.gather(1, shuffled).argsort(dim=1, descending=order == "morf", stable=True)
    return shuffled.gather(1, places)


def ranks_of(order: Tensor) -> Tensor:
    """(N, R) the position of each region in the order (N, R), in as small numbers as count them.

    Example:
        >>> ranks_of(torch.tensor([[2, 0, 1]]))
        tensor([[1, 2, 0]], dtype=torch.int16)
    """
    # Maps of these are kept for all images of a batch: small numbers, as early as possible.
    num_regions = order.shape[1]
    dtype = torch.int16 if num_regions <= torch.iinfo(torch.int16).max else torch.int32
    positions = torch.arange(num_regions, device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, positions).to(dtype)
