"""An account of relevance that does not reach the images: biases and other constants absorb it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from aopc_monitor.heatmaps.engine.calls import Call, tensors_in
from aopc_monitor.heatmaps.engine.passages import Passage, Watch
from aopc_monitor.heatmaps.engine.saved_values import Keeper

# A constant that one of these adds (a position embedding, a class token) absorbs relevance.
ADDING = frozenset({
    "add", "sub", "rsub", "cat", "concat", "concatenate", "hstack", "vstack", "stack", "pad",
    "where", "masked_fill", "lerp", "addmm", "baddbmm", "addbmm", "addcmul", "bilinear",
    "constant_pad_nd", "diagonal_scatter", "index_copy", "index_fill", "index_put",
    "masked_scatter", "scatter", "select_scatter", "setitem", "slice_scatter",
})  # fmt: skip
# Positively homogeneous in all their tensors together: a constant among them has a share.
HOMOGENEOUS = frozenset({
    "cdist", "dist", "fmax", "fmin", "hypot", "max", "maximum", "min", "minimum",
    "pairwise_distance",
})  # fmt: skip
# From the signal at a result to the relevance that the constants of the call take.
Account: TypeAlias = "Callable[[Tensor], Tensor]"


class Audit:
    """Adds up the relevance that constants absorb during a backward pass.

    Args:
        watches: whether calls are watched. Where what comes back is no relevance, so that nobody
            asks for it, only that is counted which rules tell.

    Attributes:
        absorbed: the sum so far.
        lost: relevance that a rule gave to activations of zero, which cannot hand it on.
        kept: relevance that rules kept, as their formulas say: by a stabiliser, or where nothing
            contributes.
        largest: the largest sum of |relevance| at an operation that has such a formula.
        rounding: the coarsest precision that signals were computed in.
    """

    def __init__(self, *, watches: bool = True) -> None:
        self.watches = watches
        self.absorbed = 0.0
        self.lost = 0.0
        self.kept = 0.0
        self.largest = 0.0
        self.rounding = 0.0
        self._passages: list[Passage] = []

    def absorb(self, relevance: Tensor) -> None:
        """Add the relevance that a constant took."""
        self.absorbed += float(relevance)

    def lose(self, relevance: Tensor) -> None:
        """Add relevance that activations of zero got."""
        self.lost += float(relevance)

    def keep(self, given: Tensor, handed_on: Tensor) -> None:
        """Count what a rule kept of the relevance that it was given.

        Args:
            given: relevance of the outputs.
            handed_on: what inputs and constants got of it.
        """
        self.kept += float(given.real.sum() - handed_on.real.sum())
        self.largest = max(self.largest, float(given.abs().sum()))

    def account_of(self, call: Call, is_signal: Callable[[object], bool]) -> Account | None:
        """How to count what the constants of a call take; None if there is nothing to count."""
        if call.name in HOMOGENEOUS:
            return _by_euler(call, is_signal)
        if call.name in ADDING:
            return _of_what_is_added(call, is_signal)
        return None

    @property
    def taken(self) -> float:
        """All relevance that somebody is known to have taken."""
        return self.absorbed + self.lost + self.kept

    def missing(self) -> Counter[str]:
        """Relevance that calls lost without an account, by their names."""
        found: Counter[str] = Counter()
        for passage in self._passages:
            found[passage.name] += passage.missing  # type: ignore[assignment]
        return found

    def watching(
        self, call: Call, signals: list[Tensor], is_signal: Callable[[object], bool], keeper: Keeper
    ) -> Callable[[list[Tensor]], None] | None:
        """Watch a call that is about to run; the answer, if any, is to be told its results."""
        if not self.watches:
            return None
        self.rounding = max(self.rounding, *(torch.finfo(s.dtype).eps for s in signals))
        account = self.account_of(call, is_signal)
        passage = Passage(call.name)
        watch = None
        if not call.in_place:  # where arguments and results are told apart
            self._passages.append(passage)
            watch = Watch(passage, signals, keeper, lambda: self.taken)

        def count(signal: Tensor | None) -> None:
            if signal is not None and account is not None:  # None where it went by its carrier
                relevance = account(signal)
                self.absorb(relevance)
                passage.taken += float(relevance)

        def made(results: list[Tensor]) -> None:
            if account is not None:
                for result in results[:1]:
                    result.register_hook(count)
            if watch is not None:
                watch.results(results)

        return made


def _of_what_is_added(call: Call, is_signal: Callable[[object], bool]) -> Account | None:
    """A constant is what the call makes of signals that are zero."""
    with torch.no_grad():
        zeroed = call.with_tensors(
            lambda value: torch.zeros_like(value) if is_signal(value) else value
        )
        if call.name == "setitem":  # it returns nothing, and writes into its first argument
            constant = zeroed.first.clone()
            zeroed.operation(constant, *zeroed.args[1:])
        else:
            constant = zeroed.run()
    if not isinstance(constant, Tensor) or not bool(constant.any()):
        return None
    # Masks are -inf where no signal comes back to.
    return lambda signal: torch.where(signal == 0, 0.0, signal.conj() * constant).real.sum()


def _by_euler(call: Call, is_signal: Callable[[object], bool]) -> Account | None:
    """f(x, c) is the sum of x df/dx, which signals get, and of c df/dc, which constants keep."""
    constants: list[Tensor] = []

    def leaf(value: Tensor) -> Tensor:
        alone = value.detach().clone()
        if not is_signal(value) and value.is_floating_point():
            constants.append(alone.requires_grad_())
        return alone

    with torch.enable_grad():
        result = call.with_tensors(leaf).run()
    if not constants:
        return None

    def account(signal: Tensor) -> Tensor:
        first = tensors_in(result)[0]
        gradients = torch.autograd.grad(first, constants, signal, allow_unused=True)
        shares = [c * g for c, g in zip(constants, gradients, strict=True) if g is not None]
        return torch.stack(
            [share.detach().sum() for share in shares] or [signal.new_zeros(())]
        ).sum()

    return account
