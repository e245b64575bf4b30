"""Kinds of input that hold floating-point numbers: images, series, volumes, tables.

Rows of the table `INPUT_KINDS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from aopc_monitor.perturbation.regions import Grid, suggested_box, suggested_region_size
from aopc_monitor.utilities.checks import check_heatmaps, checked_dense


class DenseInputs:
    """Floating point with channels, `(N, C, *space)`; heatmaps `(N, *space)`, regions of a grid.

    Attributes:
        name: what the inputs are called in messages.
        unit: what their extent is counted in.
        shape: of a batch, as messages tell it.
        num_dimensions: how many dimensions a batch has.
        default_replacement: what regions become if nothing else is chosen.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    shape: ClassVar[str]
    num_dimensions: ClassVar[int]
    is_dense: ClassVar[bool] = True
    has_channels: ClassVar[bool] = True
    default_replacement: ClassVar[str] = "uniform"

    def fits(self, inputs: Tensor) -> bool:
        """By the number of dimensions."""
        return inputs.ndim == self.num_dimensions

    def checked(self, inputs: Any) -> Tensor:
        """The inputs as a plain tensor, as `checked_dense` tells."""
        return checked_dense(inputs, self.name, self.shape)

    def locations(self, inputs: Tensor) -> tuple[int, ...]:
        """`(N, *space)`, the shape of heatmaps."""
        return inputs.shape[0], *inputs.shape[2:]

    def beside(self, locations: Tensor) -> Tensor:
        """`(N, 1, *space)`."""
        return locations.unsqueeze(1)

    def check_heatmaps(self, heatmaps: Any, inputs: Tensor) -> None:
        """Raise unless heatmaps are `(N, *space)`, finite and beside the inputs."""
        check_heatmaps(heatmaps, inputs, self.locations(inputs))

    def suggested_region_size(self, inputs: Tensor) -> int | tuple[int, ...] | None:
        """It grows with the extent; see `regions.suggested_region_size`."""
        return suggested_region_size(*self.locations(inputs)[1:])

    def regions(self, inputs: Tensor, region_size: int | Sequence[int] | None) -> Grid:
        """The cells of a grid."""
        if region_size is None:
            raise ValueError(
                f"region_size is missing: give the side of regions in {self.unit}, such as "
                f"region_size={self.suggested_region_size(inputs)} for {self.name} of "
                f"{self.extent_text(inputs)}, or regions= of your own"
            )
        return Grid(self.locations(inputs)[1:], region_size)

    def extent_text(self, inputs: Tensor) -> str:
        """Such as "32 x 32"."""
        return " x ".join(map(str, self.locations(inputs)[1:]))

    def over_channels(self, inputs: Tensor) -> Tensor:
        """(C, numbers)."""
        return inputs.transpose(0, 1).flatten(1)

    def channel_means(self, inputs: Tensor) -> Tensor:
        """The mean of each input's channel at all of its locations."""
        space = tuple(range(2, inputs.ndim))
        return inputs.mean(dim=space, keepdim=True).expand_as(inputs)


class Images(DenseInputs):
    """(N, C, H, W) floating point; heatmaps (N, H, W), and regions the cells of a grid.

    Example:
        >>> import torch
        >>> kind, images = Images(), torch.rand(2, 3, 32, 32)
        >>> regions = kind.regions(images, kind.suggested_region_size(images))
        >>> regions.relevance(images.mean(dim=1)).shape, regions.text(), kind.extent_text(images)
        (torch.Size([2, 64]), 'regions of 4 x 4', '32 x 32')
    """

    name: ClassVar[str] = "images"
    unit: ClassVar[str] = "pixels"
    shape: ClassVar[str] = "(N, C, H, W)"
    num_dimensions: ClassVar[int] = 4


class Series(DenseInputs):
    """(N, C, L) floating point; heatmaps (N, L), and regions windows of all channels.

    Example:
        >>> import torch
        >>> kind, series = Series(), torch.rand(2, 12, 1000)
        >>> kind.regions(series, kind.suggested_region_size(series)).text(unit=kind.unit)
        'regions of 20 time steps'
    """

    name: ClassVar[str] = "series"
    unit: ClassVar[str] = "time steps"
    shape: ClassVar[str] = "(N, C, L)"
    num_dimensions: ClassVar[int] = 3


class Volumes(DenseInputs):
    """(N, C, D, H, W) floating point, or video; heatmaps (N, D, H, W), and regions boxes.

    Example:
        >>> import torch
        >>> kind, video = Volumes(), torch.rand(2, 3, 16, 112, 112)
        >>> kind.regions(video, (4, 14, 14)).num_regions
        256
    """

    name: ClassVar[str] = "volumes"
    unit: ClassVar[str] = "voxels"
    shape: ClassVar[str] = "(N, C, D, H, W)"
    num_dimensions: ClassVar[int] = 5

    def suggested_region_size(self, inputs: Tensor) -> tuple[int, ...]:
        """One number per dimension."""
        return suggested_box(*self.locations(inputs)[1:])


class Tables(DenseInputs):
    """Rows of tables, (N, F) floating point; heatmaps (N, F), and each feature a region.

    A feature is location and channel in one: the data range has one number per feature.

    Example:
        >>> import torch
        >>> kind, rows = Tables(), torch.rand(2, 30)
        >>> kind.regions(rows, None).num_regions, kind.locations(rows)
        (30, (2, 30))
    """

    name: ClassVar[str] = "tables"
    unit: ClassVar[str] = "features"
    shape: ClassVar[str] = "(N, F)"
    num_dimensions: ClassVar[int] = 2
    has_channels: ClassVar[bool] = False

    def fits(self, inputs: Tensor) -> bool:
        """Whole numbers of two dimensions are ids of tokens."""
        return inputs.ndim == 2 and inputs.is_floating_point()

    def locations(self, inputs: Tensor) -> tuple[int, ...]:
        """(N, F)."""
        return tuple(inputs.shape)

    def beside(self, locations: Tensor) -> Tensor:
        """(N, F)."""
        return locations

    def suggested_region_size(self, inputs: Tensor) -> None:
        """There is nothing to choose."""
        return

    def regions(self, inputs: Tensor, region_size: int | Sequence[int] | None) -> Grid:
        """Each feature."""
        if region_size not in (None, 1, (1,), [1]):
            raise ValueError(
                f"region_size={region_size!r}: each feature of a table is a region of its own, so "
                "leave region_size out; groups of features are regions="
            )
        return Grid(self.locations(inputs)[1:], 1)

    def channel_means(self, inputs: Tensor) -> Tensor:
        """Each number, the only one of its feature."""
        return inputs
