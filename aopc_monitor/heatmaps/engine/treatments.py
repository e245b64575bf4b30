"""What a table of rules has for an operation, found out once and not for each call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from aopc_monitor.heatmaps.engine.calls import Call
from aopc_monitor.heatmaps.engine.operation_names import Operation, body_of, facts_of
from aopc_monitor.heatmaps.engine.operations import (
    ALSO_LINEAR_IN,
    QUERIES,
    REDUCTIONS,
    RESHAPES,
)

ITS_GRADIENT = "its gradient"
MOST_TREATMENTS = 1024


class Treatment(NamedTuple):
    """What becomes of each call of an operation.

    Attributes:
        is_query: whether it asks something about a tensor, and is left alone.
        rule: what takes its place, or None.
        body: the function behind it, if its inner operations are to be seen in its place.
        entry: its name, and what reports call its rule.
        is_exact: whether its own gradient is what the method asks for; None if that depends on the
            arguments (see `is_exact`).
        lends_shape: whether only its first tensor has values that count.
    """

    is_query: bool
    rule: Callable[[Call, Any], Any] | None
    body: Operation | None
    entry: tuple[str, str]
    is_exact: bool | None
    lends_shape: bool


class FixedRules(Mapping[str, Any]):
    """A table of rules that nobody changes, for which treatments are found out once.

    Attributes:
        treatments: what was found out, by the operations whose gradient is exact.

    Example:
        >>> rules = FixedRules({"relu": print})
        >>> rules["relu"] is print, len(rules), "conv2d" in rules
        (True, 1, False)
    """

    def __init__(self, rules: Mapping[str, Any]) -> None:
        self._rules = dict(rules)
        self.treatments: dict[frozenset[str] | None, dict[Operation, Treatment]] = {}

    def __getitem__(self, name: str) -> Any:
        return self._rules[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)


def known_treatments(
    rules: Mapping[str, Any], exact: frozenset[str] | None
) -> dict[Operation, Treatment]:
    """What is known of a table already, to be added to."""
    if not isinstance(rules, FixedRules):
        return {}
    known = rules.treatments.setdefault(exact, {})
    if len(known) > MOST_TREATMENTS:  # functions that were made for one call would be held
        known.clear()
    return known


def treatment_of(
    operation: Operation, rules: Mapping[str, Any], exact: frozenset[str] | None
) -> Treatment:
    """What a table of rules has for an operation.

    Args:
        operation: the torch function.
        rules: from plain names to rules.
        exact: plain names of the operations whose own gradient is what the method asks for; None
            for all operations.
    """
    name = facts_of(operation).name
    rule = rules.get(name)
    # Where every gradient is exact, only operations with a rule need to be looked for.
    is_known = rule is not None or name in (RESHAPES if exact is None else exact)
    depends = name in ALSO_LINEAR_IN or name in REDUCTIONS
    return Treatment(
        name in QUERIES,
        rule,
        None if is_known else body_of(operation),
        (name, ITS_GRADIENT if rule is None else _label(rule)),
        True if exact is None else None if depends else name in exact,
        name.endswith("_as"),
    )


def is_exact(call: Call, exact: frozenset[str], is_signal: Callable[[object], bool]) -> bool:
    """Whether the gradient of a call is exact, where that depends on its arguments."""
    factor = ALSO_LINEAR_IN.get(call.name)
    if factor is not None and is_signal(call.argument(*factor)):
        return False
    how = REDUCTIONS.get(call.name)
    return call.name in exact and (how is None or call.argument(*how) != "prod")


def _label(rule: Any) -> str:
    """What a report calls a rule."""
    label = getattr(rule, "label", None) or getattr(rule, "__name__", repr(rule))
    return str(label).replace("_", " ")
