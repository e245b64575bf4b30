"""Values that a forward pass cuts off from its images: `.detach()`, `.data`, copies, numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from aopc_monitor.heatmaps.engine.calls import Call, tensors_in
from aopc_monitor.heatmaps.engine.operation_names import Operation, facts_of, plain_name
from aopc_monitor.heatmaps.engine.tensor_table import TensorTable

DETACHING = {"detach": ".detach()", "data": ".data"}
LEAVING_TORCH = {
    "numpy": ".numpy()", "__array__": "numpy", "tolist": ".tolist()", "item": ".item()",
    "__float__": "float()", "__dlpack__": "from_dlpack",
}  # fmt: skip
# Where the data stand among the arguments of what copies them without their gradient.
COPYING = {"tensor": ("torch.tensor()", 0), "new_tensor": (".new_tensor()", 1)}


class CutOffs:
    """Follows values that were cut off, to where they are used.

    Args:
        undo: hand gradients through `.detach()` and `.data`, and change values that leave torch, so
            that outputs show whether they depend on them.

    Attributes:
        has_begun: whether there is anything that could get into the results of other calls.
    """

    def __init__(self, *, undo: bool = False) -> None:
        self.undo = undo
        self.has_begun = undo
        self._causes: TensorTable[frozenset[str]] = TensorTable()
        self._outside: frozenset[str] = frozenset()
        # What was cut off by where its values lie: `torch.Tensor(cut)` makes another tensor of them
        # that no mode sees. It is held, so that no other values can come to lie there.
        self._by_place: dict[int, Tensor] = {}
        # Parts of x + (q - x).detach() and of q + x - x.detach(): copies of x that are cut off,
        # differences to x, these cut off, q + x, and x - x.detach().
        self._copies: TensorTable[Tensor] = TensorTable()
        self._differences: TensorTable[list[tuple[Tensor, int]]] = TensorTable()
        self._offsets: TensorTable[list[tuple[Tensor, int]]] = TensorTable()
        self._sums: TensorTable[list[Tensor]] = TensorTable()
        self._zeros: TensorTable[Tensor] = TensorTable()

    def causes_for(self, outputs: Tensor) -> list[str]:
        """The calls that cut off what outputs were made of, or may have been made of."""
        return sorted(self.causes_of(outputs) | self._outside)

    def causes_of(self, value: object) -> frozenset[str]:
        """How a value, or a part of what it was made of, was cut off; empty if it was not."""
        found = [self._causes.get(tensor, frozenset()) for tensor in tensors_in(value)]
        return frozenset().union(*found)

    def follow(self, call: Call) -> Any:
        """Run a call, and note what it cuts off or makes of what was cut off."""
        if call.name in DETACHING:
            return self._detached(call)
        if call.operation.__name__ in LEAVING_TORCH:
            return self._left(call)
        if call.name in COPYING:
            return self._copied(call)
        if self._by_place:
            call = call.with_tensors(self._known)
        estimated = self._straight_through(call) if call.name in ("add", "sub") else None
        if estimated is not None:
            return estimated
        # The call may write over its arguments, so they are asked before.
        arguments = (call.args, call.kwargs)
        causes = self.causes_of(arguments) if len(self._causes) and _uses_values(call) else None
        result = call.operation(*call.args, **call.kwargs)
        if call.name in ("add", "sub") and call.kwargs.get("alpha", 1) == 1:
            with torch._C.DisableTorchFunction():  # attributes are torch calls as well
                (self._note_sum if call.name == "add" else self._note_difference)(call, result)
        self._mark(call.args[:1] if call.name == "setitem" else result, causes)
        return result

    def _mark(self, result: Any, causes: frozenset[str] | None) -> None:
        if causes:
            self.has_begun = True
            for tensor in tensors_in(result):
                if tensor.is_floating_point() or tensor.is_complex():
                    self._causes[tensor] = causes

    def _detached(self, call: Call) -> Any:
        source = call.first
        if not source.requires_grad or source.is_leaf:
            result = call.operation(*call.args, **call.kwargs)
            self._mark(result, self.causes_of(source))
            return result
        difference = self._differences.get(source)
        if not self.undo:
            result = call.operation(*call.args, **call.kwargs)
        else:
            result = source if call.in_place else source.view_as(source)
        self._mark(result, frozenset({DETACHING[call.name]}))
        if result is not source:
            self._copies[result] = source
            place = _place_of(result)
            if place is not None:
                self._by_place[place] = result
        if difference is not None:
            self._offsets[result] = difference
        return result

    def _known(self, tensor: Tensor) -> Tensor:
        """What was cut off, for a tensor that was made of it out of sight."""
        if tensor.requires_grad or tensor in self._causes or not tensor.is_floating_point():
            return tensor
        cut = self._by_place.get(_place_of(tensor) or 0)
        if cut is None or cut.shape != tensor.shape:
            return tensor
        self._mark(tensor, self.causes_of(cut))
        return cut if self.undo else tensor

    def _left(self, call: Call) -> Any:
        source = call.first
        if source.is_floating_point() and (source.requires_grad or self.causes_of(source)):
            self._outside |= {LEAVING_TORCH[call.operation.__name__]}
            if self.undo:
                call = call.with_first(1.5 * source.detach())
        return call.operation(*call.args, **call.kwargs)

    def _copied(self, call: Call) -> Any:
        name, position = COPYING[call.name]
        data = call.argument(position, "data")
        causes = self.causes_of(data)
        if any(tensor.requires_grad for tensor in tensors_in(data)):
            causes |= {name}
        result = call.operation(*call.args, **call.kwargs)
        if causes and self.undo and result.is_floating_point():
            result = data.to(result) if isinstance(data, Tensor) else 1.5 * result
        self._mark(result, causes)
        return result

    def _note_difference(self, call: Call, result: Any) -> None:
        """Remember q - x and x - q, if x is a signal or a copy of one that was cut off."""
        values = [call.argument(0, "input"), call.argument(1, "other")]
        for value, other, sign in ((values[1], values[0], 1), (values[0], values[1], -1)):
            if not isinstance(value, Tensor) or not isinstance(result, Tensor):
                continue
            signal = self._copies.get(value, value)
            if not signal.requires_grad:
                continue
            is_constant = not isinstance(other, Tensor) or not other.requires_grad
            if other is signal and signal is not value:
                self._zeros[result] = signal
            kept = self._offsets if signal is not value and is_constant else self._differences
            kept[result] = [*kept.get(result, []), (signal, sign)]

    def _note_sum(self, call: Call, result: Any) -> None:
        """Remember q + x, if q is a constant or was cut off and x is a signal."""
        values = [call.argument(0, "input"), call.argument(1, "other")]
        if call.in_place:
            return
        for constant, signal in (values, values[::-1]):
            if isinstance(signal, Tensor) and signal.requires_grad and self._is_constant(constant):
                self._sums[result] = [*self._sums.get(result, []), signal]

    def _is_constant(self, value: Any) -> bool:
        # While cuts are undone, what was cut off has a gradient all the same.
        return isinstance(value, Tensor) and (not value.requires_grad or value in self._copies)

    def _straight_through(self, call: Call) -> Any:
        """X + (q - x).detach() and kin as one operation, which it is; None for any other sum."""
        first, second = call.argument(0, "input"), call.argument(1, "other")
        if call.in_place or call.kwargs.get("alpha", 1) != 1:
            return None
        if not isinstance(first, Tensor) or not isinstance(second, Tensor):
            return None
        if call.name == "add":
            signal = self._signal_plus(first, second)
            signal = self._signal_plus(second, first) if signal is None else signal
        else:
            signal = self._signal_minus(first, second)
        if signal is None:
            return None
        with torch.no_grad():
            value = call.operation(*call.args, **call.kwargs)
        result = straight_through(signal, value.detach())
        self._mark(result, self.causes_of(signal))
        return result

    def _signal_plus(self, signal: Tensor, other: Tensor) -> Tensor | None:
        """X of x + (q - x).detach() or of (x - x.detach()) + q; None if it is neither."""
        if any(x is signal and sign == 1 for x, sign in self._offsets.get(other, [])):
            return signal
        return self._zeros.get(signal) if self._is_constant(other) else None

    def _signal_minus(self, first: Tensor, other: Tensor) -> Tensor | None:
        """X of x - (x - q).detach() or of (q + x) - x.detach(); None if it is neither."""
        if any(x is first and sign == -1 for x, sign in self._offsets.get(other, [])):
            return first
        copied = self._copies.get(other)
        is_summand = any(x is copied for x in self._sums.get(first, []))
        return copied if is_summand else None


def cuts_off(operation: Operation) -> bool:
    """Whether a call of this operation may cut something off, or begin to: q - x, q + x."""
    name = plain_name(operation)
    leaves = getattr(operation, "__name__", "") in LEAVING_TORCH
    return leaves or name in DETACHING or name in COPYING or name in ("add", "sub")


def adds_signals(operation: Operation, args: Sequence[Any]) -> bool:
    """Whether a call is a sum x + y of which no part is a constant tensor, as q of q + x is."""
    if facts_of(operation).name != "add" or len(args) != 2:
        return False
    return all(not isinstance(value, Tensor) or value.requires_grad for value in args)


def straight_through(signal: Tensor, value: Tensor) -> Tensor:
    """A value whose gradient goes to a signal as it is (Bengio et al. 2013).

    Example:
        >>> x = torch.tensor([0.2, 0.7], requires_grad=True)
        >>> straight_through(x, x.round()).sum().backward()
        >>> x.grad
        tensor([1., 1.])
    """
    if has_torch_function((signal, value)):
        return handle_torch_function(straight_through, (signal, value), signal, value)
    return signal + (value - signal).detach()


def _place_of(tensor: Tensor) -> int | None:
    """Where the values of a tensor lie; None for one that has no place of its own."""
    try:
        return tensor.untyped_storage().data_ptr() or None
    except (RuntimeError, NotImplementedError):  # sparse ones, and those inside a transform
        return None


def _uses_values(call: Call) -> bool:
    """Whether a call's result depends on the values that it is given, and not on shapes alone."""
    return not (call.name.endswith("_like") or call.name.startswith("new_"))
