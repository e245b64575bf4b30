"""How much of a training's wall time the evaluations take, and whether the next one may."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


def check_max_overhead(max_overhead: Any) -> None:
    """Raise ValueError unless it is None or a share between 0 and 1."""
    if max_overhead is None:
        return
    is_number = isinstance(max_overhead, (int, float)) and not isinstance(max_overhead, bool)
    if not is_number or not 0 < max_overhead < 1:
        raise ValueError(
            f"max_overhead={max_overhead!r} must be a share of the wall time between 0 and 1, such "
            "as 0.05, or None"
        )


@dataclass
class Overhead:
    """Wall time of a run, from its start on, and what of it went into evaluations.

    Attributes:
        clock: seconds from some moment on.
        spent: seconds of evaluations and their figures so far.
        last: seconds of the last one.
    """

    clock: Callable[[], float] = time.perf_counter
    spent: float = 0.0
    last: float = 0.0
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count what is done inside as an evaluation, also if it fails."""
        begin = self.clock()
        try:
            yield
        finally:
            self.last = self.clock() - begin
            self.spent += self.last

    @contextmanager
    def extended(self) -> Iterator[None]:
        """Count what is done inside as part of the last evaluation, also if it fails."""
        begin = self.clock()
        try:
            yield
        finally:
            seconds = self.clock() - begin
            self.last += seconds
            self.spent += seconds

    def share(self) -> float:
        """Share of the wall time so far that went into evaluations, 0 to 1."""
        elapsed = self.clock() - self.started
        return self.spent / elapsed if elapsed > 0 else 0.0

    def allows_another(self, max_overhead: float) -> bool:
        """Whether evaluations stay under a share of the wall time if one more is made now.

        Example:
            >>> now = [0.0]
            >>> overhead = Overhead(clock=lambda: now[0])
            >>> with overhead.timed():
            ...     now[0] += 2.0
            >>> overhead.allows_another(0.1)
            False
            >>> now[0] = 40.0
            >>> overhead.allows_another(0.1)
            True
        """
        elapsed = self.clock() - self.started
        return self.spent + self.last <= max_overhead * (elapsed + self.last)
