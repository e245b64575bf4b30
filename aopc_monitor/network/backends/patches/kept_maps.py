"""Maps of a network that are kept from one forward to the next, and patches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aopc_monitor.network.backends.chains import Chain
from aopc_monitor.network.backends.patches.map_operations import Operation, Reaches, Windows
from aopc_monitor.network.backends.patches.reach import POINT, Numbers


@dataclass(eq=False)
class Map:
    """What is known of a map before it is computed.

    Attributes:
        channels: their number.
        reaches: where it changes; of its height and its width.
        is_read: whether more of it is looked at than the patch that has just been computed.
    """

    channels: int
    reaches: Reaches
    is_read: bool = False

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width."""
        return self.reaches[0].length, self.reaches[1].length


@dataclass(frozen=True, eq=False)
class Step:
    """A call that is given maps.

    Attributes:
        func: what is called.
        args: with slots for maps.
        kwargs: the same.
        inputs: the numbers of these maps.
        operation: what it does; None where it is carried out with whole maps, and what it returns
            is no map.
        output: the number of the map that it makes.
        chain: the convolution and what follows it, if it is one.
        are_direct: of each input, whether no more of it is needed than its last patch.
    """

    func: Any
    args: Sequence[Any]
    kwargs: dict[str, Any]
    inputs: list[int]
    operation: Operation | None = None
    output: int = -1
    chain: Chain | None = None
    are_direct: list[bool] = field(default_factory=list)


@dataclass
class Plan:
    """Which maps of a network are computed on patches, and how.

    Attributes:
        chains: its convolutions and what follows each.
        maps: the images first.
        steps: in turn.
    """

    chains: list[Chain | None]
    maps: list[Map]
    steps: list[Step] = field(default_factory=list)

    def note_reads(self) -> None:
        """Find out which maps have to be kept, once all steps are known."""
        self.maps[0].is_read = True  # later images are compared with them
        for step in self.steps:
            step.are_direct[:] = [self._is_direct(step, number) for number in step.inputs]
            for number, is_direct in zip(step.inputs, step.are_direct, strict=True):
                self.maps[number].is_read |= not is_direct

    def _is_direct(self, step: Step, number: int) -> bool:
        """Whether a step needs of a map only the patch that has just been computed."""
        if step.operation is None or step.operation.windows != (POINT, POINT):
            return False
        into, of = step.operation.reaches([self.maps[number].reaches]), self.maps[step.output]
        return all(one.has_patches_of(other) for one, other in zip(into, of.reaches, strict=True))


class KeptMaps:
    """The maps of the images that a network was given last.

    Each is a matrix of a row for each position, with the channels in it, and two more rows for what
    lies beyond its border. Read as images, the rows are these with the channels last.

    Args:
        plan: which there are.
        count: how many images.
    """

    def __init__(self, plan: Plan, count: int) -> None:
        self.plan, self.count = plan, count
        self._rows = [self._room(of) if of.is_read else None for of in plan.maps]
        self._versions = [0 if rows is None else rows._version for rows in self._rows]
        self._images = np.arange(count)[:, None, None]

    def _room(self, of: Map) -> Tensor:
        height, width = of.sides
        rows = torch.empty(self.count * height * width + 2, of.channels)
        rows[-2:] = torch.tensor([[0.0], [-torch.inf]])  # ZERO and LOWEST
        return rows

    def whole(self, number: int) -> Tensor:
        """(M, C, H, W), a kept map itself."""
        rows, (height, width) = self._rows_of(number), self.plan.maps[number].sides
        return rows[:-2].view(self.count, height, width, -1).permute(0, 3, 1, 2)

    def keep(self, number: int, values: Tensor) -> None:
        """Write a whole map (M, C, H, W), if it is kept."""
        rows = self._rows[number]
        if rows is not None:
            self.whole(number).copy_(values)
            self._versions[number] = rows._version

    def at(self, places: tuple[Numbers, Numbers]) -> KeptMaps:
        """The same, for a change of the images in these places along height and width (M,)."""
        self._places, self._indices = places, dict[Any, Numbers]()
        return self

    def changed_images(self, images: Tensor) -> Tensor:
        """Take over what has changed in images (M, C, H, W), and return these patches."""
        indices, sides = self._index(0, self.plan.maps[0].reaches, (POINT, POINT), 0)
        pixels = images.permute(0, 2, 3, 1).reshape(len(self._rows_of(0)) - 2, -1)
        found = pixels.index_select(0, torch.from_numpy(indices))
        patches = found.view(self.count, *sides, -1).permute(0, 3, 1, 2)
        self.write(0, patches)
        return patches

    def patch(self, number: int, reaches: Reaches, windows: Windows, beyond: int) -> Tensor:
        """(M, C, h, w) of a map: what patches of another one, which reaches so far, are made of."""
        rows = self._rows_of(number)
        indices, sides = self._index(number, reaches, windows, beyond)
        found = rows.index_select(0, torch.from_numpy(indices))
        return found.view(self.count, *sides, -1).permute(0, 3, 1, 2)

    def write(self, number: int, patches: Tensor) -> None:
        """Write patches (M, C, h, w) of a map, if it is kept."""
        rows = self._rows[number]
        if rows is not None:
            indices, _ = self._index(number, self.plan.maps[number].reaches, (POINT, POINT), 0)
            values = patches.permute(0, 2, 3, 1).reshape(len(indices), -1)
            # As torch has it, this takes three times as long.
            rows.numpy()[indices] = values.numpy()

    def _index(
        self, number: int, reaches: Reaches, windows: Windows, beyond: int
    ) -> tuple[Numbers, tuple[int, int]]:
        height, width = self.plan.maps[number].sides
        vertical, outside_above = reaches[0].inputs(windows[0], height)
        horizontal, outside_beside = reaches[1].inputs(windows[1], width)
        key = (id(vertical), id(horizontal), height, width, beyond)
        if key not in self._indices:
            above, beside = vertical[self._places[0]] * width, horizontal[self._places[1]]
            indices = self._images * (height * width) + above[:, :, None]
            indices = indices + beside[:, None, :]
            if outside_above or outside_beside:
                np.minimum(indices, self.count * height * width + beyond, out=indices)
            self._indices[key] = indices.reshape(-1)
        return self._indices[key], (vertical.shape[1], horizontal.shape[1])

    def _rows_of(self, number: int) -> Tensor:
        rows = self._rows[number]
        if rows is None:
            raise RuntimeError(f"map {number} is looked at, and was not to be")
        return rows

    def are_ours(self) -> bool:
        """Whether nobody else has written into them, as torch counts it."""
        pairs = zip(self._rows, self._versions, strict=True)
        return all(rows is None or rows._version == version for rows, version in pairs)
