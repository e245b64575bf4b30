"""Which dimension of a layer's activations its channels are: `(N, C, *places)` or the last one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from torch import Tensor

# Backward passes of operations that tell where the channels of their results are.
_CHANNELS_SECOND = ("Convolution", "BatchNorm", "GroupNorm", "InstanceNorm", "Pool", "Upsample")
_CHANNELS_LAST = ("LayerNorm", "Addmm", "MmBackward", "Linear")
_CHANNELS_MOVED = ("Permute", "Transpose")


def channel_axis(activations: Tensor, images: Tensor) -> int | None:
    """The dimension of the channels; None if nothing tells.

    Places are in proportion to the locations of the images. Where that holds of both orders, or of
    neither, the operations that made the activations are asked.

    Args:
        activations: as many dimensions as the images, on the graph.
        images: `(N, C, *space)`.
    """
    space, shape, last = images.shape[2:], activations.shape, activations.ndim - 1
    second_fits = _in_proportion(shape[2:], space)
    last_fits = _in_proportion(shape[1:last], space)
    if second_fits != last_fits:
        return 1 if second_fits else last
    known = _axis_by_origin(activations)
    return 1 if known is None and not second_fits else known


def _in_proportion(places: Sequence[int], space: Sequence[int]) -> bool:
    """Whether the last two dimensions are: a network for video may thin out times otherwise."""
    pairs = combinations(zip(places[-2:], space[-2:], strict=True), 2)
    return all(abs(a * wide - b * high) < max(high, wide) for (a, high), (b, wide) in pairs)


def _axis_by_origin(activations: Tensor) -> int | None:
    """The channel axis by the nearest operation that tells; None if that one moves axes."""
    nodes: list[Any] = [activations.grad_fn]
    for node in nodes:
        name = "" if node is None else node.name()
        if any(part in name for part in _CHANNELS_SECOND):
            return 1
        if any(part in name for part in _CHANNELS_LAST):
            return activations.ndim - 1
        if any(part in name for part in _CHANNELS_MOVED) or len(nodes) > 100:
            return None
        nodes += [] if node is None else [following for following, _ in node.next_functions]
    return None
