"""A table by tensors, which forgets those that nobody else holds."""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any, Generic, TypeVar, overload

from torch import Tensor

Entry = TypeVar("Entry")


class TensorTable(Generic[Entry]):
    """What is known of tensors, by which tensor it is and not by its values.

    Like `torch.utils.weak.WeakIdKeyDictionary`, in a fraction of the time: every torch call of a
    forward pass looks into several of these.

    Example:
        >>> import torch
        >>> table, ones = TensorTable[str](), torch.ones(2)
        >>> table[ones] = "ones"
        >>> table.get(ones), torch.ones(2) in table
        ('ones', False)
        >>> del ones
        >>> len(table)
        0
    """

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Tensor], Entry]] = {}
        self._weakly = weakref.ref(self)

    def __setitem__(self, tensor: Tensor, entry: Entry) -> None:
        key = id(tensor)
        # The entry goes with the tensor, before another one can have the same id.
        self._entries[key] = weakref.ref(tensor, partial(_forget, self._weakly, key)), entry

    def __getitem__(self, tensor: Tensor) -> Entry:
        return self._entries[id(tensor)][1]

    def __contains__(self, tensor: object) -> bool:
        return id(tensor) in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def get(self, tensor: Tensor) -> Entry | None: ...
    @overload
    def get(self, tensor: Tensor, default: Entry) -> Entry: ...
    def get(self, tensor: Tensor, default: Entry | None = None) -> Entry | None:
        """What is known of a tensor."""
        found = self._entries.get(id(tensor))
        return default if found is None else found[1]

    def discard(self, tensor: Tensor) -> None:
        """Forget a tensor."""
        self._entries.pop(id(tensor), None)

    def tensors(self) -> list[Tensor]:
        """The tensors themselves."""
        found: list[Any] = [reference() for reference, _ in list(self._entries.values())]
        alive = [tensor for tensor in found if tensor is not None]
        for tensor in alive:
            if hasattr(tensor, "_fix_weakref"):  # torch may have kept the Python side of one alone
                tensor._fix_weakref()
        return alive


def _forget(table: weakref.ref[TensorTable[Any]], key: int, _: object) -> None:
    # By a weak reference: with a strong one tables would wait for the garbage collector, and all
    # that they hold with them.
    found = table()
    if found is not None:
        found._entries.pop(key, None)
