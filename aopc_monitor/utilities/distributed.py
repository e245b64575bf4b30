"""What processes that share the work tell each other, by torch's distributed package."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch import distributed as dist


def sums_over_processes(values: Tensor) -> Tensor:
    """The sums of the values of all processes, the same on each; the values themselves if alone.

    Example:
        >>> import torch
        >>> sums_over_processes(torch.tensor([1.0, 2.0]))
        tensor([1., 2.])
    """
    if not are_several():
        return values
    sums = values.clone()
    dist.all_reduce(sums)
    return sums


def from_all_processes(thing: Any) -> list[Any]:
    """What each process gave, by rank, on all of them; it goes through pickle.

    Example:
        >>> from_all_processes("mine")
        ['mine']
    """
    if not are_several():
        return [thing]
    things: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(things, thing)
    return things


def own_rank() -> int:
    """The number of this process among those that torch's distributed package knows; 0 if alone.

    Example:
        >>> own_rank()
        0
    """
    return dist.get_rank() if are_several() else 0


def are_several() -> bool:
    """Whether torch's distributed package is initialised for several processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
