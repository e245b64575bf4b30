"""Values that a backward rule will need, safe from what the network writes in place later on."""

from __future__ import annotations

import weakref

import torch
from torch import Tensor

from aopc_monitor.network.sharded import local_part


class Kept:
    """A value as it was when it was kept.

    Attributes:
        value: the tensor, without gradient.
        moved: whether it is a copy by now, because the network wrote over the original.
    """

    __slots__ = ("__weakref__", "moved", "value")

    def __init__(self, tensor: Tensor) -> None:
        self.value = tensor.detach()
        self.moved = False

    def move(self) -> None:
        """Copy the value, since its memory is about to be written to."""
        if not self.moved:
            self.value, self.moved = self.value.clone(), True


class Keeper:
    """Keeps values without a copy as long as nobody writes to their memory."""

    def __init__(self) -> None:
        self._by_memory: dict[int, list[weakref.ref[Kept]]] = {}
        # Kept since anybody last wrote: many networks write to nothing, and look up no memory.
        self._latest: list[weakref.ref[Kept]] = []

    def keep(self, tensor: Tensor) -> Kept:
        """Keep the tensor's present value."""
        kept = Kept(tensor)
        if tensor.layout is torch.strided:
            self._latest.append(weakref.ref(kept))
        else:  # told apart by the tensor itself
            self._by_memory.setdefault(_memory(tensor), []).append(weakref.ref(kept))
        return kept

    def about_to_write(self, tensor: Tensor, spared: Kept | None = None) -> None:
        """Copy what is kept in this tensor's memory, before somebody writes to it.

        Args:
            tensor: what will be written to.
            spared: a value that may be written over.
        """
        self._look_memory_up()
        for reference in self._by_memory.pop(_memory(tensor), []):
            kept = reference()
            if kept is None:
                continue
            if kept is spared:
                self._by_memory.setdefault(_memory(tensor), []).append(reference)
            else:
                kept.move()

    def _look_memory_up(self) -> None:
        for reference in self._latest:
            kept = reference()
            if kept is not None and not kept.moved:
                self._by_memory.setdefault(_memory(kept.value), []).append(reference)
        self._latest.clear()


def share_memory(one: Tensor, other: Tensor) -> bool:
    """Whether what is written into one of two tensors may get into the other one.

    Example:
        >>> values = torch.zeros(3)
        >>> share_memory(values, values[:2]), share_memory(values, values + 1)
        (True, False)
    """
    return _memory(one) == _memory(other)


def _memory(tensor: Tensor) -> int:
    if tensor.layout is not torch.strided:
        return id(tensor)
    # Views of one memory have one storage, so a write through any of them counts.
    try:
        return local_part(tensor).untyped_storage().data_ptr()
    except RuntimeError:  # of what another process has still to send, which nobody writes to
        return id(tensor)
