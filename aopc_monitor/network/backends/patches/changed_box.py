"""Where images differ from the ones before, as a box for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aopc_monitor.network.backends.patches.reach import Numbers


@dataclass(frozen=True)
class ChangedBox:
    """A box in each image, outside of which it is what it was.

    Attributes:
        top: (M,) its first row in each image.
        left: (M,) its first column.
        size: height and width of the largest.
    """

    top: Numbers
    left: Numbers
    size: tuple[int, int]

    @classmethod
    def between(cls, before: Tensor, now: Tensor) -> ChangedBox:
        """The smallest boxes of images (M, C, H, W) in float32, with the channels last in memory.

        NaN is what it was, and -0 is not 0. An image that is the same gets a box of one pixel.

        Example:
            >>> before = torch.zeros(1, 1, 4, 4).to(memory_format=torch.channels_last)
            >>> now = before.clone()
            >>> now[0, 0, 1:3, 2] = 1.0
            >>> ChangedBox.between(before, now)
            ChangedBox(top=array([1]), left=array([2]), size=(2, 1))
        """
        channels, height, width = now.shape[1:]
        bits = [
            images.permute(0, 2, 3, 1).reshape(len(now), height, -1).view(torch.int32)
            for images in (before, now)
        ]
        differ = (bits[0] != bits[1]).numpy()
        # Several at once, where they fill whole words.
        words = differ.view(np.uint64) if differ.shape[2] % 8 == 0 else differ
        columns = np.asarray(np.bitwise_or.reduce(words, axis=1)).view(np.bool_)
        in_columns = np.asarray(columns.reshape(-1, width, channels).any(axis=2))
        top, rows = _first_and_count(np.asarray(words.any(axis=2)))
        left, across = _first_and_count(in_columns)
        return cls(top, left, (rows, across))

    def places(self, size: tuple[int, int], sides: tuple[int, int]) -> tuple[Numbers, Numbers]:
        """Where boxes of a size that hold these begin, inside images of these sides."""
        top, left = (
            np.minimum(first, side - of)
            for first, side, of in zip((self.top, self.left), sides, size, strict=True)
        )
        return top, left


def _first_and_count(differ: npt.NDArray[np.bool_]) -> tuple[Numbers, int]:
    """Of (M, positions): the first one that differs, and how many there are up to the last."""
    first, last = differ.argmax(axis=1), differ.shape[1] - differ[:, ::-1].argmax(axis=1)
    counts = np.where(differ.any(axis=1), last - first, 1)
    return first, int(counts.max())
