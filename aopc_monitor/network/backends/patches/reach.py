"""Where maps of a network change along one dimension, by the place of the change in its images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Numbers: TypeAlias = npt.NDArray[np.int64]

# Beyond all positions of any map.
FAR = 2**40


@dataclass(frozen=True)
class Window:
    """Which inputs an output is made of, along one dimension.

    Attributes:
        size: how many.
        stride: inputs between outputs.
        dilation: inputs between those of one output.
        padding: inputs before the first one.
        is_ceil: whether there is an output also of windows that end beyond the padding.
    """

    size: int = 1
    stride: int = 1
    dilation: int = 1
    padding: int = 0
    is_ceil: bool = False

    @property
    def span(self) -> int:
        """Inputs from the first to the last of an output, with both."""
        return (self.size - 1) * self.dilation + 1

    def outputs(self, length: int) -> int:
        """How many outputs there are of so many inputs, padded on both sides.

        Example:
            >>> Window(3, 2).outputs(8), Window(3, 2, is_ceil=True).outputs(8)
            (3, 4)
        """
        between = length + 2 * self.padding - self.span
        if not self.is_ceil:
            return between // self.stride + 1
        outputs = -(-between // self.stride) + 1
        # A window that begins beyond the inputs and the padding before them has none.
        return outputs - ((outputs - 1) * self.stride >= length + self.padding)


POINT = Window()


@dataclass(eq=False)
class Reach:
    """Where a map changes along one dimension, for each place of the change in the images.

    All patches of a map have one size, the largest that is needed, so that they are computed
    together; each lies inside the map.

    Attributes:
        length: of the map.
        first: (places,) where the change begins.
        end: (places,) where it is over.
        start: (places,) where the patch begins that holds it.
        size: of the patches.
    """

    length: int
    first: Numbers
    end: Numbers
    size: int = field(init=False)
    start: Numbers = field(init=False)
    _known: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.size = max(1, int((self.end - self.first).max()))
        self.start = self.first.clip(0, self.length - self.size)

    @classmethod
    def of_images(cls, length: int, size: int) -> Reach:
        """Changes of one size, at all places along so many pixels.

        Example:
            >>> Reach.of_images(4, 2).first
            array([0, 1, 2])
        """
        first = np.arange(length - size + 1)
        return cls(length, first, first + size)

    def through(self, window: Window) -> Reach:
        """Where outputs change whose inputs change here.

        Example:
            >>> outputs = Reach.of_images(8, 2).through(Window(size=3, stride=2, padding=1))
            >>> outputs.first[2], outputs.end[2], outputs.size  # the inputs 2 and 3
            (np.int64(1), np.int64(3), 2)
        """
        if window == POINT:
            return self
        if window not in self._known:
            length, before = window.outputs(self.length), window.padding - window.span + 1
            first = (-(-(self.first + before) // window.stride)).clip(0, length)
            end = ((self.end - 1 + window.padding) // window.stride + 1).clip(first, length)
            self._known[window] = Reach(length, first, end)
        reach: Reach = self._known[window]
        return reach

    def moved(self, before: int, after: int) -> Reach:
        """The same in a map with so many more positions before and after."""
        if (before, after) not in self._known:
            moved = Reach(before + self.length + after, self.first + before, self.end + before)
            moved.start = self.start + before  # the very same patches
            self._known[before, after] = moved
        reach: Reach = self._known[before, after]
        return reach

    def joined(self, other: Reach) -> Reach:
        """Where this one or another one of the same map changes."""
        if self is other:
            return self
        first, end = np.minimum(self.first, other.first), np.maximum(self.end, other.end)
        return Reach(self.length, first, end)

    def has_patches_of(self, other: Reach) -> bool:
        """Whether patches of another map lie where those of this one do."""
        if self is other:
            return True
        are_as_large = (self.length, self.size) == (other.length, other.size)
        return are_as_large and np.array_equal(self.start, other.start)

    def inputs(self, window: Window, length: int) -> tuple[Numbers, bool]:
        """Positions of what these patches are made of, in inputs of a length.

        Returns:
            (places, positions), `FAR` for positions outside; and whether there are any outside.

        Example:
            >>> outputs = Reach.of_images(8, 2).through(Window(size=3, padding=1))
            >>> positions, has_outside = outputs.inputs(Window(size=3, padding=1), 8)
            >>> positions[3].tolist(), has_outside  # outputs 2 to 5
            ([1, 2, 3, 4, 5, 6], True)
        """
        key = ("inputs", window, length)
        if key not in self._known:
            # Of windows of one, what lies between two is not looked at.
            step = window.stride if window.size == 1 else 1
            between = np.arange(0, (self.size - 1) * window.stride + window.span, step)
            positions = self.start[:, None] * window.stride - window.padding + between
            is_inside = (positions >= 0) & (positions < length)
            self._known[key] = (np.where(is_inside, positions, FAR), not is_inside.all())
        known: tuple[Numbers, bool] = self._known[key]
        return known
