"""The data range: the low and high of valid inputs, in the space that the network sees.

It is always given by the caller, or read off images that the caller named; it is never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from aopc_monitor.perturbation.input_kinds import kind_of
from aopc_monitor.utilities.configured import plain_value

# The share of pixels at each end that may be outliers, and how many times wider than the range of
# the others these make a range that is doubted.
OUTLIERS, SEVERAL = 0.005, 8.0
# Pixels of a channel that suffice to know its range by.
MOST_SORTED = 1_000_000

Bound: TypeAlias = "float | Sequence[float] | Tensor"
DataRange: TypeAlias = "tuple[Bound, Bound]"


def normalized_data_range(
    mean: Sequence[float], std: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Data range of images in [0, 1] after `(image - mean) / std`, channel by channel.

    Raises:
        ValueError: if the two have not one number for each channel, or a std is not positive.

    Example:
        >>> normalized_data_range(mean=[0.5, 0.25], std=[0.5, 0.25])
        ([-1.0, -1.0], [1.0, 3.0])
    """
    mean, std = plain_value(mean), plain_value(std)
    if len(mean) != len(std):
        raise ValueError(
            f"mean has {len(mean)} numbers and std {len(std)}: give one of each for each channel, "
            "as in the Normalize transform of your images"
        )
    if not all(s > 0 for s in std):
        raise ValueError(f"std={std!r} must be positive: take those of your Normalize transform")
    low = [(0.0 - m) / s for m, s in zip(mean, std, strict=True)]
    high = [(1.0 - m) / s for m, s in zip(mean, std, strict=True)]
    return low, high


def _transposed(data_range: Any) -> str:
    """What was meant by a pair for each channel, for people; "" for anything else."""
    try:
        lows, highs = zip(*data_range, strict=True)
    except (TypeError, ValueError):
        return ""
    return f": give the lows of all channels and then the highs, ({list(lows)}, {list(highs)})"


def data_range_tensors(
    data_range: DataRange | None,
    channels: int | None = None,
    of: str = "images",
    each: str = "channel",
) -> tuple[Tensor, Tensor]:
    """The data range as two (C, 1, 1) float32 tensors.

    Args:
        data_range: (low, high), each a number for all channels or one number per channel.
        channels: C, the number of channels of the images; as many as the range has if not given.
        of: what the inputs are called in messages.
        each: what has a range of its own.

    Raises:
        ValueError: if it is missing, not a pair, of the wrong length, not finite, or low > high, or
            not smaller in any channel.

    Example:
        >>> low, high = data_range_tensors((0.0, [1.0, 2.0]), channels=2)
        >>> high.flatten()
        tensor([1., 2.])
    """
    if data_range is None:
        raise ValueError(
            "data_range is missing: give (low, high) of valid inputs as the network sees them, "
            "such as (0.0, 1.0), or normalized_data_range(mean, std) for normalised images; texts "
            "have none, and take other replacements and heatmaps"
        )
    data_range = plain_value(data_range)
    if not isinstance(data_range, (tuple, list)) or len(data_range) != 2:
        raise ValueError(
            f"data_range={data_range!r} is not a pair (low, high){_transposed(data_range)}"
        )
    low, high = (
        torch.as_tensor(bound, dtype=torch.float32, device="cpu").flatten() for bound in data_range
    )
    channels = channels or max(len(low), len(high))
    for bound in (low, high):
        if len(bound) not in (1, channels):
            raise ValueError(
                f"data_range={data_range!r} has a bound of {len(bound)} numbers for {of} of "
                f"{channels} {each}s: give one number, or one per {each}"
            )
    is_finite = bool(torch.isfinite(low).all() and torch.isfinite(high).all())
    # A channel that holds nothing, a dead band, may have a range of nothing.
    if not (is_finite and (low <= high).all() and (low < high).any()):
        raise ValueError(
            f"data_range={data_range!r} needs finite numbers with low < high (equal only in a "
            "channel that is constant beside others)"
        )
    return low.expand(channels)[:, None, None], high.expand(channels)[:, None, None]


def rounded(bound: Bound) -> list[float]:
    """A bound of the data range for reading: three digits after the point."""
    return [round(value, 3) for value in torch.as_tensor(bound).flatten().tolist()]


def observed_data_range(*images: Tensor) -> tuple[list[float], list[float]]:
    """Smallest and largest value of each channel over all images.

    Args:
        images: (N, C, H, W), several of these if they differ in size.

    Raises:
        ValueError: if all channels are constant, so that there is no range. A single one that is
            keeps its value as its range.

    Example:
        >>> observed_data_range(torch.tensor([[[[0.0, 1.0]]], [[[3.0, 2.0]]]]))
        ([0.0], [3.0])
    """
    channels = {batch.shape[1] for batch in images}
    if len(channels) > 1:
        raise ValueError(
            f"data_range cannot be read off images of {' and '.join(map(str, sorted(channels)))} "
            "channels: give data_range=(low, high)"
        )
    values = [kind_of(batch).over_channels(batch.float()) for batch in images]
    low = torch.stack([of_batch.amin(dim=1) for of_batch in values]).amin(dim=0)
    high = torch.stack([of_batch.amax(dim=1) for of_batch in values]).amax(dim=0)
    if not (low < high).any():
        raise ValueError(
            f"data_range cannot be read off images in which all channels are constant (from "
            f"{low.tolist()} to {high.tolist()}): give data_range=(low, high)"
        )
    return low.tolist(), high.tolist()


def range_doubts(*images: Tensor) -> list[str]:
    """Where a range that is read off these images is that of a few pixels, as of a fill value.

    A channel is doubted if the range of all pixels is several times that of nearly all, even
    without those that hold the smallest or the largest value itself.

    Args:
        images: (N, C, H, W), several of these if they differ in size.

    Example:
        >>> images = torch.linspace(0, 1, 256).view(4, 1, 8, 8)
        >>> range_doubts(images)
        []
        >>> images[0, 0, 0] = -9999.0
        >>> [doubt[:33] for doubt in range_doubts(images)]
        ['channel 0 runs from -9999 to 1, b']
    """
    values = torch.cat([kind_of(batch).over_channels(batch.float()) for batch in images], dim=1)
    step = max(1, values.shape[1] // MOST_SORTED)
    found = []
    for channel, of_channel in enumerate(values):
        low, high = of_channel.min(), of_channel.max()
        inner = of_channel[::step]
        inner = inner[(inner > low) & (inner < high)].sort().values
        if not len(inner):  # black and white
            continue
        cut = int(OUTLIERS * len(inner))
        lowest, highest = inner[cut], inner[len(inner) - 1 - cut]
        if high - low > SEVERAL * (highest - lowest):
            found.append(
                f"channel {channel} runs from {float(low):.4g} to {float(high):.4g}, but nearly "
                f"all of its pixels from {float(lowest):.4g} to {float(highest):.4g}: are there "
                "fill values? Give data_range=(low, high) of valid pixels"
            )
    return found
