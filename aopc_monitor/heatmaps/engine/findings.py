"""What a forward pass under rules found: which operation met which rule, and which has none."""

from __future__ import annotations

import warnings
from collections import Counter

from torch import Tensor

from aopc_monitor.heatmaps.engine.audit import Audit
from aopc_monitor.heatmaps.engine.operations import FIRST_LAYER


class NoRuleWarning(UserWarning):
    """A heatmap went through operations that its method has no rule for."""


class Findings:
    """What is told of a forward pass under rules and of its backward pass.

    Args:
        method: name of the method, for messages.
        first_layer_was_met: whether there is no rule of the first layer to wait for.

    Attributes:
        used: how often each (operation, rule) was met; the rule is "" where there is none.
        without_rule: operations that were met and have no rule.
        audit: if set, is told of the relevance that constants such as biases absorb.
        first_layer_was_met: whether the rule of the first layer, if there is one, was applied.
    """

    def __init__(self, method: str, *, first_layer_was_met: bool) -> None:
        self.method = method
        self.used: Counter[tuple[str, str]] = Counter()
        self.without_rule: set[str] = set()
        self.audit: Audit | None = None
        self.first_layer_was_met = first_layer_was_met

    def note_first_layer(self, label: str) -> None:
        """Remember that the rule of the first layer was applied."""
        self.first_layer_was_met = True
        self.used[FIRST_LAYER, label] += 1

    def note_absorbed(self, relevance: Tensor) -> None:
        """Count relevance that a constant took, if anybody asks."""
        if self.audit is not None:
            self.audit.absorb(relevance.sum())

    def note_lost(self, relevance: Tensor, is_zero: Tensor) -> None:
        """Count relevance of activations of zero, which cannot hand it on, if anybody asks."""
        if self.audit is not None:
            self.audit.lose(relevance[is_zero].sum())

    def note_without_rule(self, name: str, results: list[Tensor]) -> None:
        """Remember an operation without a rule, once a signal comes back through it."""
        self.used[name, ""] += 1
        for result in results:
            result.register_hook(lambda signal: self._reached(name, signal))

    def _reached(self, name: str, signal: Tensor | None) -> None:
        if signal is not None:  # None where relevance went by its carrier
            self.without_rule.add(name)

    def warn(self) -> None:
        """Name the operations without a rule that the backward pass went through."""
        if not self.first_layer_was_met:
            self.without_rule.add("the first layer (no linear operation works on the images)")
        if self.without_rule:
            message = (
                f"{self.method} has no rule for: {', '.join(sorted(self.without_rule))}. Their "
                "plain gradient was used, so the heatmap is not what the method's name says"
            )
            warnings.warn(NoRuleWarning(message), stacklevel=2)
