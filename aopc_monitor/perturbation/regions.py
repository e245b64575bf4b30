"""Where: the grid of regions, the relevance of a region, and the order of perturbation.

Samek et al. 2017, section III: a heatmap induces an ordered sequence of locations (eq. 9 and 10),
here the cells of a non-overlapping grid. Pure tensor functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from aopc_monitor.utilities.statistics import accumulator_dtype

Order = Literal["morf", "lerf", "random"]
ORDERS: tuple[str, ...] = get_args(Order)


@dataclass(frozen=True)
class Grid:
    """Non-overlapping square regions, centred on the image; the remainder at the borders is free.

    Attributes:
        height: image height in pixels.
        width: image width in pixels.
        region_size: side m of a region in pixels.

    Raises:
        ValueError: if a region is smaller than one pixel or larger than the image.

    Example:
        >>> grid = Grid(height=32, width=32, region_size=9)
        >>> grid.rows, grid.columns, grid.num_regions, grid.top
        (3, 3, 9, 2)
    """

    height: int
    width: int
    region_size: int

    def __post_init__(self) -> None:
        if not 1 <= self.region_size <= min(self.height, self.width):
            raise ValueError(
                f"region_size={self.region_size} does not fit images of {self.height} x "
                f"{self.width} pixels: give a whole number from 1 to "
                f"{min(self.height, self.width)}"
            )

    @property
    def rows(self) -> int:
        """Number of regions from top to bottom."""
        return self.height // self.region_size

    @property
    def columns(self) -> int:
        """Number of regions from left to right."""
        return self.width // self.region_size

    @property
    def num_regions(self) -> int:
        """R, the number of regions."""
        return self.rows * self.columns

    @property
    def top(self) -> int:
        """Pixels above the first row of regions."""
        return (self.height - self.rows * self.region_size) // 2

    @property
    def left(self) -> int:
        """Pixels left of the first column of regions."""
        return (self.width - self.columns * self.region_size) // 2

    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of the image that regions cover."""
        return (
            slice(self.top, self.top + self.rows * self.region_size),
            slice(self.left, self.left + self.columns * self.region_size),
        )


def suggested_region_size(height: int, width: int) -> int:
    """A region size that suits an image: 4 pixels at 32 x 32, 9 (the paper's) at 224 x 224.

    It grows with the square root of the shorter side, so that larger images get both larger
    regions and more of them.

    Example:
        >>> [suggested_region_size(side, side) for side in (28, 32, 64, 224)]
        [3, 4, 5, 9]
    """
    return max(1, round(0.62 * min(height, width) ** 0.5))


def region_relevance(heatmaps: Tensor, grid: Grid) -> Tensor:
    """Mean of the heatmap over each region.

    The mean is taken in double precision, so that equal pixels give exactly equal regions and a
    rounding error never decides the order.

    Args:
        heatmaps: (N, H, W).
        grid: the regions of the image.

    Returns:
        (N, R), regions counted along rows.

    Example:
        >>> region_relevance(torch.eye(4)[None], Grid(4, 4, 2))
        tensor([[0.5000, 0.0000, 0.0000, 0.5000]], dtype=torch.float64)
    """
    rows, columns = grid.inside()
    covered = heatmaps[:, rows, columns].to(accumulator_dtype(heatmaps.device))
    return F.avg_pool2d(covered.unsqueeze(1), grid.region_size).flatten(1)


def check_order(order: str) -> None:
    """Raise ValueError unless the order is known."""
    if order not in ORDERS:
        raise ValueError(f"order={order!r} is unknown: choose one of {', '.join(ORDERS)}")


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
    if order == "random":
        return shuffled
    by_relevance = relevance.gather(1, shuffled).argsort(
        dim=1, descending=order == "morf", stable=True
    )
    return shuffled.gather(1, by_relevance)


def rank_map(order: Tensor, grid: Grid) -> Tensor:
    """Each pixel's position in the order: step k perturbs exactly the pixels of rank < k.

    Args:
        order: (N, R) region indices from `perturbation_order`.
        grid: the regions of the image.

    Returns:
        (N, 1, H, W) int16, or int32 for more regions than that can count. Pixels outside all
        regions have rank R, which no step reaches.

    Example:
        >>> rank_map(torch.tensor([[2, 0, 1]]), Grid(1, 3, 1))
        tensor([[[[1, 2, 0]]]], dtype=torch.int16)
    """
    # These maps are kept for all images of a batch: small numbers, as early as possible.
    dtype = torch.int16 if grid.num_regions <= torch.iinfo(torch.int16).max else torch.int32
    positions = torch.arange(grid.num_regions, device=order.device).expand_as(order)
    ranks = torch.empty_like(order).scatter_(1, order, positions)
    cells = ranks.to(dtype).view(-1, 1, grid.rows, grid.columns)
    pixels = cells.repeat_interleave(grid.region_size, 2).repeat_interleave(grid.region_size, 3)
    shape = (len(order), 1, grid.height, grid.width)
    full = torch.full(shape, grid.num_regions, dtype=dtype, device=order.device)
    rows, columns = grid.inside()
    full[:, :, rows, columns] = pixels
    return full
