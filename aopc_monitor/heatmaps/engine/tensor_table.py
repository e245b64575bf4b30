"""A table by tensors, which forgets those that nobody else holds."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from functools import partial
from typing import Any, Generic, TypeVar, overload

from torch import Tensor

Entry = TypeVar("Entry")


class TensorTable(Generic[Entry]):
    """What is known of tensors, by which tensor it is and not by its values.

    Like `torch.utils.weak.WeakIdKeyDictionary`, in a fraction of the time: every torch call of a
    forward pass looks into several of these.

    Attributes:
        by_id: each tensor, weakly, and its entry; its length is asked for faster than the table's.

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
        self.by_id: dict[int, tuple[weakref.ref[Tensor], Entry]] = {}
        self._weakly = weakref.ref(self)

    def __setitem__(self, tensor: Tensor, entry: Entry) -> None:
        key = id(tensor)
        # The entry goes with the tensor, before another one can have the same id.
        self.by_id[key] = weakref.ref(tensor, partial(_forget, self._weakly, key)), entry

    def __getitem__(self, tensor: Tensor) -> Entry:
        return self.by_id[id(tensor)][1]

    def __contains__(self, tensor: object) -> bool:
        return id(tensor) in self.by_id

    def __len__(self) -> int:
        return len(self.by_id)

    @overload
    def get(self, tensor: Tensor) -> Entry | None: ...
    @overload
    def get(self, tensor: Tensor, default: Entry) -> Entry: ...
    def get(self, tensor: Tensor, default: Entry | None = None) -> Entry | None:
        """What is known of a tensor."""
        found = self.by_id.get(id(tensor))
        return default if found is None else found[1]

    def discard(self, tensor: Tensor) -> None:
        """Forget a tensor."""
        self.by_id.pop(id(tensor), None)


class TensorSet:
    """Tensors, by which they are and not by their values, as long as somebody else holds them.

    A table takes twice as long, because it takes note of the end of each tensor.

    Example:
        >>> import torch
        >>> seen, ones = TensorSet(), torch.ones(2)
        >>> seen.add(ones)
        >>> seen.has_all([ones]), seen.has_all([ones, torch.ones(2)])
        (True, False)
    """

    def __init__(self) -> None:
        self._references: dict[int, weakref.ref[Tensor]] = {}

    def add(self, tensor: Tensor) -> None:
        """Add a tensor."""
        self._references[id(tensor)] = weakref.ref(tensor)

    def has_all(self, tensors: Iterable[Tensor]) -> bool:
        """Whether all of these tensors were added."""
        for tensor in tensors:
            reference = self._references.get(id(tensor))
            # Another tensor may have the id of one that is gone.
            if reference is None or reference() is not tensor:
                return False
        return True

    def tensors(self) -> list[Tensor]:
        """The tensors themselves."""
        return _alive(reference() for reference in list(self._references.values()))


def _alive(found: Iterable[Any]) -> list[Tensor]:
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
        found.by_id.pop(key, None)
