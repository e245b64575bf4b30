"""Signals: the tensors of a forward pass that depend on the images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from aopc_monitor.heatmaps.engine.calls import tensors_in
from aopc_monitor.heatmaps.engine.tensor_table import TensorSet, TensorTable


class Signals:
    """Tells what depends on the images, and which of it was made out of sight.

    Args:
        images: where the signal begins.
    """

    def __init__(self, images: Tensor) -> None:
        self._seen = TensorSet()
        self._seen.add(images)
        self._start = images.grad_fn
        # What was made of parameters alone that no module registered: they require gradients.
        self._constants: TensorTable[bool] = TensorTable()
        self._has_constants = False

    def is_signal(self, value: object) -> bool:
        """Whether a value is a tensor that depends on the images."""
        # Parameters that no module registered are leaves, which the images here never are.
        return (
            isinstance(value, Tensor)
            and value.requires_grad
            and not value.is_leaf
            and not (self._has_constants and value in self._constants)
        )

    def signals_among(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        """Those of some tensors that depend on the images."""
        # As `is_signal`, which takes twice as long for all tensors of a forward.
        found = [tensor for tensor in tensors if tensor.requires_grad and not tensor.is_leaf]
        if self._has_constants:
            return [tensor for tensor in found if tensor not in self._constants]
        return found

    def note_constant(self, tensor: Tensor) -> None:
        """Remember that a tensor does not depend on the images, though it requires gradients."""
        self._constants[tensor] = self._has_constants = True

    def note_constants(self, result: Any) -> None:
        """What was made without any signal is none either, though it may require gradients."""
        for tensor in tensors_in(result):
            if tensor.requires_grad and not tensor.is_leaf:
                self.note_constant(tensor)

    def note_written(self, tensor: Tensor) -> None:
        """What was a constant may have become a signal, when a call wrote into it."""
        for written in (tensor, tensor._base) if self._has_constants else ():
            if written is not None:
                self._constants.discard(written)

    def note_made(self, results: Iterable[Tensor]) -> None:
        """Remember signals that a call made in sight, or wrote into."""
        for tensor in results:
            self._seen.add(tensor)
            base = tensor._base
            if base is not None:  # written into through a view
                self._seen.add(base)

    def comes_from_elsewhere(self, signal: Tensor) -> bool:
        """Whether the graph of what looks like a signal does not lead to the images."""
        return not reaches(signal, self._start)


def reaches(tensor: Tensor, start: Any) -> bool:
    """Whether a tensor's graph goes back to the node `start`, the `grad_fn` of another one.

    Example:
        >>> import torch
        >>> x, w = (torch.ones(2, requires_grad=True).clone() for _ in range(2))
        >>> reaches((x * w).sum(), x.grad_fn), reaches(w.sum(), x.grad_fn)
        (True, False)
    """
    nodes: list[Any] = [tensor.grad_fn]
    seen: set[Any] = set()
    while nodes:
        node = nodes.pop()
        if node is start:
            return True
        if node is not None and node not in seen:
            seen.add(node)
            nodes.extend(following for following, _ in node.next_functions)
    return False
