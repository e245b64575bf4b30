"""An account of relevance that does not reach the images: biases and other constants absorb it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aopc_monitor.heatmaps.engine.calls import Call

# A constant that one of these adds (a position embedding, a class token) absorbs relevance.
ADDING = frozenset({
    "add", "sub", "rsub", "cat", "concat", "concatenate", "hstack", "vstack", "stack", "pad",
    "where", "masked_fill", "lerp", "addmm", "baddbmm", "addbmm", "addcmul",
})  # fmt: skip


class Audit:
    """Adds up the relevance that constants absorb during a backward pass.

    Attributes:
        absorbed: the sum so far.
        lost: relevance that a rule gave to activations of zero, which cannot hand it on.
    """

    def __init__(self) -> None:
        self.absorbed = 0.0
        self.lost = 0.0

    def absorb(self, relevance: Tensor) -> None:
        """Add the relevance that a constant took."""
        self.absorbed += float(relevance)

    def lose(self, relevance: Tensor) -> None:
        """Add relevance that activations of zero got."""
        self.lost += float(relevance)

    def constant_part(self, call: Call, is_signal: Callable[[object], bool]) -> Tensor | None:
        """What a call makes of signals that are zero; None if nothing, or if it adds nothing."""
        if call.name not in ADDING:
            return None
        with torch.no_grad():
            constant = call.with_tensors(
                lambda value: torch.zeros_like(value) if is_signal(value) else value
            ).run()
        return constant if isinstance(constant, Tensor) and bool(constant.any()) else None

    def watch(self, constant: Tensor, results: list[Tensor]) -> None:
        """Count the relevance that comes back to a constant part of a result."""

        def count(signal: Tensor | None) -> None:
            if signal is not None:  # None where relevance went by its carrier
                # Masks are -inf where no signal comes back to.
                self.absorb(torch.where(signal == 0, 0.0, signal * constant).sum())

        for result in results[:1]:
            result.register_hook(count)
