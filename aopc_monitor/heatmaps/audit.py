"""Where relevance goes that does not reach the images: into biases and other added constants."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aopc_monitor.heatmaps.calls import Call

# A constant that one of these adds (a position embedding, a class token) absorbs relevance.
ADDING = frozenset({
    "add", "sub", "rsub", "cat", "concat", "concatenate", "hstack", "vstack", "stack", "pad",
    "where", "masked_fill", "addmm", "baddbmm", "addbmm", "addcmul",
})  # fmt: skip


class Audit:
    """Adds up the relevance that constants absorb during a backward pass.

    Attributes:
        absorbed: the sum so far.
    """

    def __init__(self) -> None:
        self.absorbed = 0.0

    def absorb(self, relevance: Tensor) -> None:
        """Add the relevance that a constant took."""
        self.absorbed += float(relevance)

    def watch(self, call: Call, is_signal: Callable[[object], bool], results: list[Tensor]) -> None:
        """Follow what a call adds to signals."""
        if call.name not in ADDING or len(results) != 1:
            return
        with torch.no_grad():
            constant = call.with_tensors(
                lambda value: torch.zeros_like(value) if is_signal(value) else value
            ).run()
            if isinstance(constant, Tensor) and bool(constant.any()):
                results[0].register_hook(lambda signal: self.absorb((signal * constant).sum()))
