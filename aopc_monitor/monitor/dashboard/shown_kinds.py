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
        inputs: from inputs and the protocol to what the eye sees of them; of texts, the ids of the
            tokens of each word.
        has_borders: whether a regular grid of regions is drawn, too; those of the user's own are.
        has_words: whether there is one number for each region, and no picture of them.
    """

    most: int
    inputs: Callable[[Tensor, PerturbationProtocol], Any]
    has_borders: bool = False
    has_words: bool = False

    def maps(self, relevance: Tensor, inputs: Tensor, protocol: PerturbationProtocol) -> Any:
        """What is shown of heatmaps `(N, *space)`: they themselves, or the relevance of words."""
        if not self.has_words:
            return relevance.numpy()
        regions = protocol.regions_of(inputs)
        rows, counts = regions.relevance(relevance).numpy(), region_counts(regions, len(inputs))
        return [row[:count] for row, count in zip(rows, counts, strict=True)]


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


def _words(ids: Tensor, protocol: PerturbationProtocol) -> list[list[list[int]]]:
    regions = protocol.regions_of(ids)
    numbers, counts = region_numbers(regions, len(ids)), region_counts(regions, len(ids))
    found: list[list[list[int]]] = [[[] for _ in range(count)] for count in counts]
    for words, row, of_tokens in zip(found, ids.tolist(), numbers.tolist(), strict=True):
        for token, word in zip(row, of_tokens, strict=True):
            if word >= 0:
                words[word].append(token)
    return found


SHOWN_KINDS: dict[str, ShownKind] = {
    "images": ShownKind(6, _pixels),
    "series": ShownKind(3, _numbers, has_borders=True),
    "volumes": ShownKind(2, _pixels),
    VIDEOS: ShownKind(2, _pixels),
    "tables": ShownKind(3, _numbers),
    "texts": ShownKind(3, _words, has_words=True),
}


def shown_kind(inputs: Tensor) -> str:
    """The kind of some inputs as people see them: volumes of three channels are videos.

    Example:
        >>> shown_kind(torch.zeros(1, 3, 8, 16, 16)), shown_kind(torch.zeros(1, 1, 8, 16, 16))
        ('videos', 'volumes')

    Raises:
        ValueError: for a kind without a row in `SHOWN_KINDS`.
    """
    name = kind_of(inputs).name
    if name not in SHOWN_KINDS:
        raise ValueError(f"{name} have no picture: they need a row in SHOWN_KINDS")
    return VIDEOS if name == "volumes" and inputs.shape[1] == COLOURED else name


def region_numbers(regions: Regions, count: int) -> NDArray[np.int64]:
    """`(N, *space)` the number of the region of each location, -1 in none."""
    order = torch.arange(regions.num_regions).expand(count, -1)
    numbers = regions.rank_map(order).long()
    return numbers.masked_fill(numbers >= regions.num_regions, -1).numpy()


def region_counts(regions: Regions, count: int) -> list[int]:
    """How many regions each of so many inputs has."""
    numbers = regions.numbers
    return [regions.num_regions] * count if numbers is None else numbers.tolist()


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
    if kind in ("tables", "texts") or (
        protocol.regions is None and not SHOWN_KINDS[kind].has_borders
    ):
        return {}
    regions = protocol.regions_of(inputs)
    more: dict[str, Any] = {"regions": region_numbers(regions, len(inputs))}
    if kind == "series" and not protocol.counts_shares(regions):
        more["perturbed"] = protocol.steps
    return more
