"""How many images go through a network at once, before anything was timed."""

from __future__ import annotations

from torch import Tensor

MOST_AT_FIRST = 64
# Backward passes keep what their forward passes computed. Of small images more go at once: what
# a heatmap does beside the arithmetic is felt there. Of large ones on a CPU, as many as of a
# forward: 32 of 224 x 224 keep so much that the allocator asks the system for pages each time, at
# up to twice the time of 16.
MOST_BACKWARD, NUMBERS_BACKWARD = 32, 2**18
# On a CPU, where what a network computes is fastest from the cache: numbers in the images.
MOST_NUMBERS_ON_CPU = 16 * 3 * 224 * 224
# Each forward reads all weights, and brings them into a layout. Where there are so many for each
# number in an image, that is felt, and twice as many images share it.
MANY_WEIGHTS = 1024
# Numbers that stand for a token in a network, roughly.
WORD_VECTOR = 256


def suggested_chunk_size(images: Tensor, weights: int = 0) -> int:
    """Images (N, C, H, W) of one forward.

    Args:
        images: of the kind that goes through the network.
        weights: how many numbers the network's parameters hold, if that is known.

    Example:
        >>> import torch
        >>> [suggested_chunk_size(torch.empty(1, 3, side, side)) for side in (32, 224, 512)]
        [64, 16, 2]
        >>> suggested_chunk_size(torch.zeros(1, 512, dtype=torch.long))  # token ids
        16
        >>> suggested_chunk_size(torch.empty(1, 3, 32, 32), weights=11_689_512)  # resnet18
        128
    """
    if images.device.type != "cpu":
        return MOST_AT_FIRST
    numbers = numbers_of_one(images)
    has_many = images.is_floating_point() and weights >= MANY_WEIGHTS * numbers
    most = 2 * MOST_AT_FIRST if has_many else MOST_AT_FIRST
    return min(most, _power_of_two(MOST_NUMBERS_ON_CPU // numbers))


def backward_chunk_size(images: Tensor) -> int:
    """Images (N, C, H, W) of one backward pass.

    Example:
        >>> import torch
        >>> [backward_chunk_size(torch.empty(1, 3, side, side)) for side in (32, 64, 224)]
        [64, 32, 16]
    """
    numbers = numbers_of_one(images)
    most = max(MOST_BACKWARD, _power_of_two(NUMBERS_BACKWARD // numbers))
    if images.device.type != "cpu":
        return most
    return min(most, _power_of_two(MOST_NUMBERS_ON_CPU // numbers))


def _power_of_two(most: int) -> int:
    """The greatest that is not above `most`; at least 1."""
    return int(2 ** (max(1, most).bit_length() - 1))


def numbers_of_one(images: Tensor) -> int:
    """Numbers that a network works on for one input: token ids stand for their vectors."""
    return images.shape[1:].numel() * (1 if images.is_floating_point() else WORD_VECTOR)
