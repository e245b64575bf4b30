"""What people see of each kind of input: pixels, lines, words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aopc_monitor.perturbation.data_range import data_range_tensors, observed_data_range
from aopc_monitor.perturbation.input_kinds import kind_of
from aopc_monitor.perturbation.protocol import PerturbationProtocol
from aopc_monitor.perturbation.regions import Regions

# Channels of a picture in colour.
COLOURED = 3
VIDEOS = "videos"


class ShownKind(NamedTuple):
    """How inputs of a kind become what `aopc_monitor.figures.gallery_of` takes.

    Attributes:
        most: how many are shown.
        inputs: from inputs and the protocol to what the eye sees of them.
        has_borders: whether a regular grid of regions is drawn, too; those of the user's own are.
    """

    most: int
    inputs: Callable[[Tensor, PerturbationProtocol], Any]
    has_borders: bool = False


def pixels_of(images: Tensor, data_range: Any) -> Tensor:
    """Images, volumes or videos as the eye sees them: the data range from dark to bright.

    Args:
        images: `(N, C, *space)` as the network sees them.
        data_range: (low, high) of valid inputs, numbers or one per channel; the smallest and the
            largest value of each channel if there is none.

    Returns:
        `(N, *space, 3)` from 0 to 1: in colour for three channels, else their mean in grey.

    Example:
        >>> pixels_of(torch.full((1, 1, 2, 2), 3.0), (-1.0, 7.0))[0, 0, 0]
        tensor([0.5000, 0.5000, 0.5000])
    """
    chosen = observed_data_range(images) if data_range is None else data_range
    shape = (-1, *[1] * (images.ndim - 2))
    low, high = (end.view(shape) for end in data_range_tensors(chosen, images.shape[1]))
    width = torch.where(high > low, high - low, 1)  # a channel may be constant
    shown = ((images.float() - low) / width).clamp(0, 1).float()
    if images.shape[1] != COLOURED:
        shown = shown.mean(dim=1, keepdim=True).expand(-1, 3, *[-1] * (images.ndim - 2))
    return shown.movedim(1, -1)


def _pixels(images: Tensor, protocol: PerturbationProtocol) -> NDArray[Any]:
    return pixels_of(images, protocol.data_range).numpy()


def _numbers(inputs: Tensor, protocol: PerturbationProtocol) -> NDArray[Any]:
    return inputs.float().numpy()


SHOWN_KINDS: dict[str, ShownKind] = {
    "images": ShownKind(6, _pixels),
    "series": ShownKind(3, _numbers, has_borders=True),
    "volumes": ShownKind(2, _pixels),
    VIDEOS: ShownKind(2, _pixels),
    "tables": ShownKind(3, _numbers),
}


def shown_kind(inputs: Tensor) -> str:
    """The kind of some inputs as people see them: volumes of three channels are videos.

    Example:
        >>> shown_kind(torch.zeros(1, 3, 8, 16, 16)), shown_kind(torch.zeros(1, 1, 8, 16, 16))
        ('videos', 'volumes')
    """
    name = kind_of(inputs).name
    return VIDEOS if name == "volumes" and inputs.shape[1] == COLOURED else name


def region_numbers(regions: Regions, count: int) -> NDArray[np.int64]:
    """`(N, *space)` the number of the region of each location, -1 in none."""
    order = torch.arange(regions.num_regions).expand(count, -1)
    numbers = regions.rank_map(order).long()
    return numbers.masked_fill(numbers >= regions.num_regions, -1).numpy()


def shown_rows(num_inputs: int, count: int) -> list[int]:
    """Rows of the inputs of a probe that are shown, so many, spread over all of it.

    Example:
        >>> shown_rows(128, count=6), shown_rows(2, count=6)
        ([0, 21, 42, 64, 85, 106], [0, 1])
    """
    count = min(count, num_inputs)
    return [row * num_inputs // count for row in range(count)]


def more_of(inputs: Tensor, protocol: PerturbationProtocol) -> dict[str, Any]:
    """What the picture of a kind shows beside inputs and heatmaps: regions, those perturbed."""
    kind = shown_kind(inputs)
    if kind == "tables" or (protocol.regions is None and not SHOWN_KINDS[kind].has_borders):
        return {}
    regions = protocol.regions_of(inputs)
    more: dict[str, Any] = {"regions": region_numbers(regions, len(inputs))}
    if kind == "series" and not protocol.counts_shares(regions):
        more["perturbed"] = protocol.steps
    return more
