"""Operations that are carried out for a part of a map alone, and what part they need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch.nn.functional as F
from torch import Tensor

from aopc_monitor.network.backends.chains import Chain
from aopc_monitor.network.backends.patches.reach import POINT, Reach, Window

# Along the height and the width of maps.
Reaches: TypeAlias = tuple[Reach, Reach]
Windows: TypeAlias = tuple[Window, Window]
# What stands beyond the border of a map.
ZERO, LOWEST = 0, 1


@dataclass(frozen=True, kw_only=True)
class Operation(ABC):
    """A call that is given maps, (M, C, H, W) each, and returns another one.

    Attributes:
        windows: which positions of a map each position of its output is made of.
        beyond: what these windows see beyond the border of a map.
        in_place: whether it writes into the first one.
    """

    windows: Windows = (POINT, POINT)
    beyond: int = ZERO
    in_place: bool = False

    def reaches(self, inputs: Sequence[Reaches]) -> Reaches:
        """Where the output changes whose inputs change there."""
        vertical, horizontal = inputs[0]
        for other in inputs[1:]:
            vertical, horizontal = vertical.joined(other[0]), horizontal.joined(other[1])
        return vertical.through(self.windows[0]), horizontal.through(self.windows[1])

    @abstractmethod
    def in_full(self, maps: Sequence[Tensor]) -> Tensor:
        """The output of whole maps, which it leaves as they are."""

    @abstractmethod
    def on_patches(self, patches: Sequence[Tensor]) -> Tensor:
        """A patch of the output, of patches that hold what it is made of."""


@dataclass(frozen=True, kw_only=True)
class Windowed(Operation):
    """A convolution and what follows it, or pooling."""

    whole: Callable[[Tensor], Tensor]
    patch: Callable[[Tensor], Tensor]

    def in_full(self, maps: Sequence[Tensor]) -> Tensor:
        """The output of a whole map."""
        return self.whole(maps[0])

    def on_patches(self, patches: Sequence[Tensor]) -> Tensor:
        """A patch of it."""
        return self.patch(patches[0])


@dataclass(frozen=True, kw_only=True)
class Pointwise(Operation):
    """A function of the numbers at each position, of one map or several."""

    call: Callable[[Sequence[Tensor]], Tensor]

    def in_full(self, maps: Sequence[Tensor]) -> Tensor:
        """The output, in memory of its own."""
        return self.call([maps[0].clone(), *maps[1:]] if self.in_place else maps)

    def on_patches(self, patches: Sequence[Tensor]) -> Tensor:
        """The same of patches."""
        return self.in_full(patches)


@dataclass(frozen=True, kw_only=True)
class Bordered(Operation):
    """A map with positions put around it: left, right, above, below."""

    sides: tuple[int, int, int, int]
    value: float | None

    def reaches(self, inputs: Sequence[Reaches]) -> Reaches:
        """The same patches, elsewhere."""
        ((vertical, horizontal),) = inputs
        left, right, above, below = self.sides
        return vertical.moved(above, below), horizontal.moved(left, right)

    def in_full(self, maps: Sequence[Tensor]) -> Tensor:
        """The map with its border."""
        return F.pad(maps[0], self.sides, value=self.value)

    def on_patches(self, patches: Sequence[Tensor]) -> Tensor:
        """The patch as it is."""
        return patches[0]


def of_chain(chain: Chain) -> Operation:
    """A convolution and what follows it."""
    of = chain.convolution
    numbers = zip(of.weight.shape[2:], of.stride, of.dilation, of.padding, strict=True)
    vertical, horizontal = (Window(*along) for along in numbers)
    return Windowed(windows=(vertical, horizontal), whole=chain, patch=chain.on_patches)
