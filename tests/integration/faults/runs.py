"""Runs a case beside the same run without the monitor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tests.integration.faults import checks, interruptions, page, processes
from tests.integration.faults.fault import ARMED
from tests.integration.faults.injection import Injection
from tests.integration.faults.interruptions import INTERRUPTIONS, Interrupted
from tests.integration.faults.table import FAULTS, Case
from tests.integration.faults.training import Seen, run


class Result(NamedTuple):
    """What came out of a case, on one process.

    Attributes:
        seen: with the monitor.
        without: the same run without it.
        healthy: the same run with it, and nothing broken.
    """

    seen: Seen
    without: Seen
    healthy: Seen


Found: TypeAlias = Result | Interrupted


@cache
def reference(entry: str, folder: Path, count: int, watched: bool, sharded: bool) -> Seen:
    return run(Injection(), folder, count, entry, watched, sharded)


def run_case(rank: int, case: Case, folder: Path, count: int = processes.COUNT) -> Found:
    if case.fault in INTERRUPTIONS:
        return interruptions.interrupted(rank, case.fault, case.column, folder, count)
    fault = FAULTS[case.fault]
    injection = fault.make(rank in ARMED[case.column])
    without, healthy = (
        reference(fault.entry, folder, count, watched, fault.sharded) for watched in (False, True)
    )
    seen = run(injection, folder, count, fault.entry, sharded=fault.sharded)
    return Result(seen, without, healthy)


def verdict(case: Case, found: Sequence[Found]) -> tuple[str, list[str]]:
    """What the page shows, and what is not as it has to be."""
    interrupted = [one for one in found if isinstance(one, Interrupted)]
    if interrupted:
        complaints = interruptions.complaints(case.fault, interrupted)
        return interruptions.summary(interrupted), complaints
    results = [one for one in found if isinstance(one, Result)]
    seen, without, healthy = (list(one) for one in zip(*results, strict=True))
    fault = FAULTS[case.fault]
    complaints = checks.complaints(fault, case.column, seen, without, healthy)
    return page.summary(fault, seen, without), complaints
