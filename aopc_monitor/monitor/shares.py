"""Which process looks at which part of a probe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aopc_monitor.monitor.probe import Probe

if TYPE_CHECKING:
    from pytorch_lightning import Trainer


@dataclass(frozen=True)
class Place:
    """The place of a process among those that train.

    Attributes:
        number: of the share that it takes.
        shares: how many there are. Processes that hold parts of the same layers (tensor parallel)
            take the same one.
        counts: whether it is the one of these whose sums count.
    """

    number: int
    shares: int
    counts: bool = True

    @classmethod
    def of(cls, trainer: Trainer) -> Place:
        """The place of this process."""
        strategy = trainer.strategy
        if not any(kind.__name__ == "ModelParallelStrategy" for kind in type(strategy).__mro__):
            return cls(trainer.global_rank, trainer.world_size)
        mesh = strategy.device_mesh  # type: ignore[attr-defined]
        data = mesh["data_parallel"]
        first = mesh["tensor_parallel"].get_local_rank() == 0
        return cls(data.get_local_rank(), data.size(), first)


def rounds(probe: Probe, place: Place, equal: bool) -> Iterator[tuple[Probe, bool]]:
    """The blocks that a process looks at, and whether its sums count.

    There are as many on each process as on any other, in case they talk to each other in forwards.

    Args:
        probe: the probe, the same on all processes.
        place: that of this process.
        equal: whether blocks have to be of the same size on all processes in each round, as those
            of sharded models, which wait for each other.
    """
    blocks = list(probe.blocks())
    shape = blocks[0].images.shape
    shared = [block for block in blocks if not equal or block.images.shape == shape]
    rest = [block for block in blocks if equal and block.images.shape != shape]
    for first in range(0, len(shared), place.shares):
        index = first + place.number
        has_one = index < len(shared)
        yield shared[index if has_one else 0], has_one and place.counts
    for block in rest:
        yield block, place.number == 0 and place.counts
