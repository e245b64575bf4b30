"""Custom autograd functions (`torch.autograd.Function`), whose operations no mode sees as one.

What such a function computes is recognised by its values: an identity that does something to the
gradients alone (gradient reversal, scaling), or an activation that saves memory. The engine then
puts the operation itself in its place, with a rule of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from aopc_monitor.heatmaps.engine.tensor_table import TensorTable

Function = Callable[[Tensor], Tensor]


def identity(values: Tensor) -> Tensor:
    """The values themselves."""
    return values * 1


def gelu_by_tanh(values: Tensor) -> Tensor:
    """GELU by its approximation."""
    return F.gelu(values, approximate="tanh")


KNOWN: tuple[Function, ...] = (
    identity, F.relu, F.silu, F.gelu, gelu_by_tanh, F.mish, F.hardswish, F.relu6, F.elu,
    F.leaky_relu, F.softplus, F.selu, torch.sigmoid, torch.tanh, F.hardsigmoid, torch.round,
    torch.floor, torch.sign,
)  # fmt: skip


class CustomFunctions:
    """Finds out what custom functions did, by what went into them and what came out.

    Attributes:
        are_met: whether any was recognised.
    """

    def __init__(self) -> None:
        # The last few suffice: a result is met soon after the function was called.
        self._inputs: deque[Tensor] = deque(maxlen=16)
        self._stand_ins: TensorTable[Tensor] = TensorTable()
        self.are_met = False

    def note_inputs(self, signals: Iterable[Tensor]) -> None:
        """Remember signals that are worked on without gradients, as inside of such a function."""
        self._inputs.extend(signals)

    def recognised(
        self, result: Tensor, signals: Iterable[Tensor]
    ) -> tuple[Function, Tensor] | None:
        """The known function that made a result, and what it was applied to; None if there is none.

        Args:
            result: what a custom function returned.
            signals: tensors that may have gone into it.
        """
        node: Any = result.grad_fn
        if result._base is not None and not isinstance(node, BackwardCFunction):
            node = node.next_functions[0][0]  # a view of what the function returned
        if not isinstance(node, BackwardCFunction):
            return None
        made_of: Any = node
        sources = [source for source, _ in made_of.next_functions if source is not None]
        if len(sources) != 1:
            return None
        for signal in (*self._inputs, *signals):
            if signal.grad_fn is sources[0] and signal.shape == result.shape:
                found = _function_of(signal, result)
                return None if found is None else (found, signal)
        return None

    def put(self, result: Tensor, stand_in: Tensor) -> None:
        """Use another tensor wherever the result of a custom function is used."""
        self._stand_ins[result] = stand_in
        self.are_met = True

    def stand_in(self, value: Tensor) -> Tensor:
        """What stands in for a tensor: itself, unless a custom function was recognised."""
        return self._stand_ins.get(value, value)


def _function_of(values: Tensor, result: Tensor) -> Function | None:
    with torch.no_grad():
        for function in KNOWN:
            expected = function(values.detach())
            if torch.allclose(expected, result.detach().to(expected.dtype), rtol=1e-5, atol=1e-6):
                return function
    return None
