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
        spent: seconds of evaluations and figures so far.
        last: seconds of the last evaluation.
        last_figures: seconds of the last figures.
    """

    clock: Callable[[], float] = time.perf_counter
    spent: float = 0.0
    last: float = 0.0
    last_figures: float = 0.0
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
    def drawing(self) -> Iterator[None]:
        """Count what is done inside as figures, also if it fails."""
        begin = self.clock()
        try:
            yield
        finally:
            self.last_figures = self.clock() - begin
            self.spent += self.last_figures

    def share(self) -> float:
        """Share of the wall time so far that went into evaluations, 0 to 1."""
        elapsed = self.clock() - self.started
        return self.spent / elapsed if elapsed > 0 else 0.0

    def allows(self, seconds: float, max_overhead: float) -> bool:
        """Whether all of it stays under a share of the wall time if so many seconds are added now.

        Example:
            >>> now = [0.0]
            >>> overhead = Overhead(clock=lambda: now[0])
            >>> with overhead.timed():
            ...     now[0] += 2.0
            >>> overhead.allows(overhead.last, max_overhead=0.1)
            False
            >>> now[0] = 40.0
            >>> overhead.allows(overhead.last, max_overhead=0.1)
            True
        """
        elapsed = self.clock() - self.started
        return self.spent + seconds <= max_overhead * (elapsed + seconds)
