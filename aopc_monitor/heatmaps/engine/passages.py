"""What single calls were given and what they handed on, to name those that lose relevance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from aopc_monitor.heatmaps.engine.saved_values import Keeper, Kept


class Passage:
    """Relevance that went through one call.

    Attributes:
        name: the operation.
        given: relevance that came to the results.
        handed_on: relevance that went to the arguments.
        taken: relevance that constants and rules took in between.
        is_whole: whether all of this could be seen.
        is_reached: whether any relevance came to the results.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.given = 0.0
        self.handed_on = 0.0
        self.taken = 0.0
        self.is_whole = True
        self.is_reached = False

    @property
    def missing(self) -> float:
        """Relevance that nothing accounts for; 0 where not all could be seen."""
        if not self.is_whole or not self.is_reached:
            return 0.0
        return self.given - self.handed_on - self.taken


class Watch:
    """Watches one call; to be made before the call runs.

    Args:
        passage: where its relevance is added up.
        signals: the arguments that depend on the images.
        keeper: keeps their values.
        taken: what constants and rules have taken so far, anywhere.
    """

    def __init__(
        self, passage: Passage, signals: list[Tensor], keeper: Keeper, taken: Callable[[], float]
    ) -> None:
        self.passage = passage
        self._taken = taken
        self._keeper = keeper
        self._arguments = {(s.grad_fn, s.output_nr): keeper.keep(s) for s in signals}
        self._start = _nodes_so_far()

    def results(self, results: Iterable[Tensor]) -> None:
        """Watch what comes back to the results of the call, and what goes on to its arguments."""
        fresh = [r for r in results if (r.grad_fn, r.output_nr) not in self._arguments]
        for result in fresh:
            result.register_hook(partial(self._give, self._keeper.keep(result)))
        for node in self._nodes_of(fresh):
            places = []
            for place, edge in enumerate(node.next_functions):
                if edge in self._arguments:
                    places.append((place, self._arguments[edge]))
                elif edge[0] is not None and not self._is_ours(edge[0]):
                    # A layer is fused with the one before it, or relevance has a carrier.
                    self.passage.is_whole = False
            self._watch(node, places)
        # Nodes hold their hooks, which must not hold nodes.
        self._arguments = {}

    def _nodes_of(self, results: list[Tensor]) -> Iterator[Any]:
        """The nodes of the graph that the call made."""
        waiting: list[Any] = [result.grad_fn for result in results]
        known: set[Any] = set()
        while waiting:
            node = waiting.pop()
            if node is None or node in known or not self._is_ours(node):
                continue
            known.add(node)
            yield node
            waiting += [before for before, _ in node.next_functions]

    def _is_ours(self, node: Any) -> bool:
        # Leaves, which lead to no other node, have the highest of all numbers.
        return bool(node.next_functions) and bool(node._sequence_nr() >= self._start)

    def _watch(self, node: Any, places: list[tuple[int, Kept]]) -> None:
        before: list[float] = []

        def enter(signals: Any) -> None:
            before.append(self._taken())

        def leave(handed_on: Any, given: Any) -> None:
            self.passage.taken += self._taken() - before.pop()
            for place, argument in places:
                if handed_on[place] is not None:
                    self.passage.handed_on += _relevance(argument, handed_on[place])

        node.register_prehook(enter)
        node.register_hook(leave)

    def _give(self, result: Kept, signal: Tensor | None) -> None:
        if signal is not None:  # None where relevance went by its carrier
            self.passage.is_reached = True
            self.passage.given += _relevance(result, signal)


def _relevance(kept: Kept, signal: Tensor) -> float:
    products = kept.value * signal.conj()
    total = float(products.real.sum())
    if math.isfinite(total):
        return total
    # What is infinite was masked, and no signal comes back to it.
    return float(torch.where(signal == 0, 0.0, products).real.sum())


def _nodes_so_far() -> int:
    count: int = torch.autograd._get_sequence_nr()  # type: ignore[attr-defined]
    return count
