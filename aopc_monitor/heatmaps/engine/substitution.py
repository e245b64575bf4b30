"""Tensors whose backward pass is ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def substitute(
    source: Tensor,
    value: Tensor,
    backward: Callable[[Tensor], Any],
    carrier: Tensor | None = None,
    *,
    copy: bool = True,
) -> Tensor:
    """A tensor of the given value whose gradient with respect to `source` is `backward(g)`.

    Args:
        source: where the signal goes on.
        value: what the forward pass continues with.
        backward: from the signal at the value to the signal at the source.
        carrier: if given, what `backward` returns goes here, and nothing to the source.
        copy: whether the value is copied, so that it may be changed in place; not needed for what
            nobody else uses.
    """
    if source.is_nested and source.layout is torch.strided:
        raise NotImplementedError(
            "the network uses nested tensors of the strided layout, which take no rule of ours: "
            "make them with layout=torch.jagged, as torch itself advises, or pad them"
        )
    value = value.detach().clone() if copy else value.detach()
    # Within a tuple, a tensor is hidden from autograd, which would treat it as a view of itself.
    result: Tensor = _Substitute.apply(source, carrier, (value,), backward)
    return result


def substitute_in_place(
    tensor: Tensor,
    source: Tensor,
    write: Callable[[Tensor], None],
    backward: Callable[[Tensor], Any],
) -> Tensor:
    """A tensor that is written to, whose signal goes to another one by `backward` from then on.

    Args:
        tensor: what is written to; no signal comes back to what it was before.
        source: where the signal goes on.
        write: writes.
        backward: from the signal at what was written to the signal at the source.
    """
    result: Tensor = _SubstituteInPlace.apply(tensor, source, write, backward)
    return result


def scaled(source: Tensor, factor: float) -> Tensor:
    """The source, with its signal multiplied by a factor."""
    return substitute(source, source, lambda signal: signal * factor)


class _Substitute(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        source: Tensor,
        carrier: Tensor | None,
        value: tuple[Tensor],
        backward: Callable[[Tensor], Tensor],
    ) -> Tensor:
        ctx.rule = backward
        ctx.carries = carrier is not None
        ctx.set_materialize_grads(False)
        return value[0]

    @staticmethod
    def backward(
        ctx: Any, signal: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        if signal is None:  # another way goes round this one
            return None, None, None, None
        result = ctx.rule(signal)
        return (None, result, None, None) if ctx.carries else (result, None, None, None)


class _SubstituteInPlace(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        tensor: Tensor,
        source: Tensor,
        write: Callable[[Tensor], None],
        backward: Callable[[Tensor], Tensor],
    ) -> Tensor:
        write(tensor)
        ctx.mark_dirty(tensor)
        ctx.rule = backward
        ctx.set_materialize_grads(False)
        return tensor

    @staticmethod
    def backward(ctx: Any, signal: Tensor | None) -> tuple[None, Tensor | None, None, None]:
        return None, None if signal is None else ctx.rule(signal), None, None
