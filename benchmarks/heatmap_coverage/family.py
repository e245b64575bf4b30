"""The row of a family of networks, of timm's and of transformers'."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence

from aopc_monitor.heatmaps import LRPEpsilon
from benchmarks.heatmap_coverage.measured import (
    CHANGED,
    LIMIT,
    METHODS,
    Losses,
    conservation,
    in_bold_above,
    losses,
    works,
)
from benchmarks.heatmap_coverage.networks import Network, Subject, subject
from benchmarks.peers import EPSILON

COLUMNS = (
    "family", "network", "images", *METHODS, "untouched", "LRP error", "absorbed", "left",
    "remarks",
)  # fmt: skip
NUMBERS = frozenset({"LRP error", "absorbed", "left"})
NOTHING = "-"


def cells_of(make: Callable[[], Network]) -> list[str]:
    """What stands after the family's name in its row."""
    tried = subject(make)
    network, worked = tried.network, works(tried)
    error = conservation(tried, LRPEpsilon(EPSILON))
    found = losses(tried)
    return [
        network.name,
        f"{network.size} x {network.size}",
        *worked,
        "no" if CHANGED in worked else "yes",
        error.strip("*"),  # in bold is what nothing explains
        f"{found.absorbed:.1e}" if abs(found.absorbed) >= LIMIT else "0",
        in_bold_above(found.left, LIMIT),
        "; ".join(_remarks(tried, found)),
    ]


def _remarks(tried: Subject, found: Losses) -> Iterator[str]:
    """Why a network fails."""
    if found.without_rule:
        yield f"no rule: {', '.join(sorted(found.without_rule))}"
    if found.left < LIMIT:
        return
    smaller = EPSILON / 100
    left = losses(tried, smaller).left
    if left < 0.05 * found.left:
        yield f"by the stabiliser alone: {left:.1e} are left with epsilon {smaller:.0e}"


def failed(family: str, reason: str) -> list[str]:
    """The row of a family that could not be measured."""
    return [family, *[NOTHING] * (len(COLUMNS) - 2), " ".join(reason.split())[:200]]


def summary(rows: Sequence[Sequence[str]]) -> str:
    """How many networks work, and how many conserve relevance."""
    measured = [row for row in rows if row[1] != NOTHING]
    place = COLUMNS.index(METHODS[0])
    all_work = sum(set(row[place : place + len(METHODS)]) == {"yes"} for row in measured)
    untouched = sum(row[COLUMNS.index("untouched")] == "yes" for row in measured)
    error, left = (
        sum(_is_small(row[COLUMNS.index(column)]) for row in measured)
        for column in ("LRP error", "left")
    )
    text = (
        f"Of {len(rows)} rows, {len(measured)} could be measured. All heatmaps work on {all_work} "
        f"networks; {untouched} were left untouched. The LRP error is below {LIMIT:.0e} in "
        f"{error}, and in {left} with the reported constants counted."
    )
    return f"{textwrap.fill(text, 100)}\n\n"


def _is_small(cell: str) -> bool:
    return not cell.startswith("raises") and float(cell.strip("*")) < LIMIT
