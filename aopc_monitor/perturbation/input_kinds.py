"""Kinds of input: how inputs are checked, cut into regions, ranked and replaced, and what suits.

Section III-A of Samek et al. 2017 speaks of an ordered set of locations of any kind. What is
particular to a kind stands in its row here; nothing in eq. 9 to 12 is. Images are the only row yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from aopc_monitor.perturbation.regions import (
    Grid,
    Order,
    perturbation_order,
    rank_map,
    region_relevance,
    suggested_region_size,
)
from aopc_monitor.utilities.checks import check_heatmaps, checked_images
from aopc_monitor.utilities.statistics import accumulator_dtype


class InputKind(Protocol):
    """What a row of the table tells; `*space` are the dimensions of the locations.

    Attributes:
        name: what the inputs are called in messages.
        unit: what their extent is counted in.
        num_dimensions: how many dimensions a batch of them has.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    num_dimensions: ClassVar[int]

    def checked(self, inputs: Any) -> Tensor:
        """The inputs as a plain tensor; TypeError or ValueError tells what to do about others."""

    def check_heatmaps(self, heatmaps: Any, inputs: Tensor) -> None:
        """Raise unless there is one finite relevance per location, `(N, *space)`."""

    def suggested_region_size(self, inputs: Tensor) -> int:
        """A region size that suits inputs of this extent."""

    def regions(self, inputs: Tensor, region_size: int) -> Grid:
        """The R regions that all of the inputs are cut into; ValueError if they do not fit."""

    def sizes_text(self, regions: Grid) -> tuple[str, str]:
        """How large a region is and how large an input, for messages."""

    def relevance(self, heatmaps: Tensor, regions: Grid) -> Tensor:
        """(N, R) relevance of each region."""

    def rank_map(self, order: Tensor, regions: Grid) -> Tensor:
        """`(N, 1, *space)` rank of each location, from the order (N, R) of regions."""

    def mask(self, chosen: Tensor, regions: Grid) -> Tensor:
        """`(M, 1, *space)` which locations are in the chosen regions (M, R)."""

    def over_channels(self, inputs: Tensor) -> Tensor:
        """(C, numbers) all values of each channel."""

    def channel_means(self, inputs: Tensor) -> Tensor:
        """Inputs of which each location holds the mean of its input's channel."""


class Images:
    """(N, C, H, W) floating point; heatmaps (N, H, W), and regions the square cells of a grid.

    Example:
        >>> kind, images = Images(), torch.rand(2, 3, 32, 32)
        >>> regions = kind.regions(images, kind.suggested_region_size(images))
        >>> kind.relevance(images.mean(dim=1), regions).shape, kind.sizes_text(regions)
        (torch.Size([2, 64]), ('4 x 4', '32 x 32'))
    """

    name: ClassVar[str] = "images"
    unit: ClassVar[str] = "pixels"
    num_dimensions: ClassVar[int] = 4

    def checked(self, inputs: Any) -> Tensor:
        """The images, as `checked_images` tells."""
        return checked_images(inputs)

    def check_heatmaps(self, heatmaps: Any, inputs: Tensor) -> None:
        """Raise unless heatmaps are (N, H, W), finite and beside the images."""
        check_heatmaps(heatmaps, inputs)

    def suggested_region_size(self, inputs: Tensor) -> int:
        """It grows with the square root of the shorter side."""
        height, width = inputs.shape[2:]
        return suggested_region_size(height, width)

    def regions(self, inputs: Tensor, region_size: int) -> Grid:
        """The cells of a grid."""
        height, width = inputs.shape[2:]
        return Grid(height, width, region_size)

    def sizes_text(self, regions: Grid) -> tuple[str, str]:
        """Height and width of a cell and of an image."""
        side = regions.region_size
        return f"{side} x {side}", f"{regions.height} x {regions.width}"

    def relevance(self, heatmaps: Tensor, regions: Grid) -> Tensor:
        """The mean over each cell."""
        return region_relevance(heatmaps, regions)

    def rank_map(self, order: Tensor, regions: Grid) -> Tensor:
        """(N, 1, H, W); pixels at the borders, outside all cells, have rank R."""
        return rank_map(order, regions)

    def mask(self, chosen: Tensor, regions: Grid) -> Tensor:
        """(M, 1, H, W); pixels outside all cells are in none."""
        cells = chosen.view(-1, 1, regions.rows, regions.columns)
        full = cells.new_zeros(len(cells), 1, regions.height, regions.width)
        rows, columns = regions.inside()
        side = regions.region_size
        full[:, :, rows, columns] = cells.repeat_interleave(side, 2).repeat_interleave(side, 3)
        return full

    def over_channels(self, inputs: Tensor) -> Tensor:
        """(C, N * H * W)."""
        return inputs.transpose(0, 1).flatten(1)

    def channel_means(self, inputs: Tensor) -> Tensor:
        """The mean colour of each image."""
        return inputs.mean(dim=(2, 3), keepdim=True).expand_as(inputs)


# The first row is what other inputs are told to become.
INPUT_KINDS: tuple[InputKind, ...] = (Images(),)


def kind_of(inputs: Any) -> InputKind:
    """The kind of some inputs, by the number of their dimensions; the first one if there is none.

    Example:
        >>> kind_of(torch.zeros(1, 3, 8, 8)).name
        'images'
    """
    dimensions = inputs.ndim if isinstance(inputs, Tensor) else None
    fitting = (kind for kind in INPUT_KINDS if kind.num_dimensions == dimensions)
    return next(fitting, INPUT_KINDS[0])


def checked_inputs(inputs: Any) -> Tensor:
    """The inputs as a plain tensor.

    Raises:
        TypeError, ValueError: unless they are of a kind that is known, not empty and finite.
    """
    return kind_of(inputs).checked(inputs)


def rank_maps_of(
    inputs: Tensor,
    orders: Sequence[tuple[Tensor, Order]],
    regions: Grid,
    generator: torch.Generator,
) -> list[Tensor]:
    """One `(N, 1, *space)` rank map per order (eq. 10), all of which break ties alike.

    Args:
        inputs: what is perturbed.
        orders: heatmaps `(N, *space)` and which of their regions go first.
        regions: the regions of the inputs.
        generator: source of the tie breakers.

    Raises:
        ValueError: for heatmaps that do not fit the inputs.
    """
    kind, shape = kind_of(inputs), (len(inputs), regions.num_regions)
    dtype = accumulator_dtype(generator.device)
    ties = torch.rand(shape, generator=generator, device=generator.device, dtype=dtype)
    ties, maps = ties.to(inputs.device), []
    for heatmaps, order in orders:
        kind.check_heatmaps(heatmaps, inputs)
        ranked = perturbation_order(kind.relevance(heatmaps, regions), order, ties)
        maps.append(kind.rank_map(ranked, regions))
    return maps
