"""The time that there is, and which rows still fit into it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

NO_TIME = "left out: no time"


@dataclass(frozen=True)
class Budget:
    """Time until a deadline.

    Attributes:
        began: when the whole began, on the clock.
        seconds: how long the whole may take.
        share: the part of it after which nothing more is begun.
        clock: tells the time in seconds.

    Example:
        >>> budget = Budget(began=100.0, seconds=60.0, clock=lambda: 120.0)
        >>> budget.left, budget.until(0.5).left, budget.until(0.5).fits(15)
        (40.0, 10.0, False)
    """

    began: float
    seconds: float
    share: float = 1.0
    clock: Callable[[], float] = time.monotonic

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.began + self.share * self.seconds - self.clock()

    def fits(self, seconds: float) -> bool:
        """Whether something that takes so long would still end in time."""
        return seconds <= self.left

    def until(self, share: float) -> Budget:
        """The same clock with the deadline of a part."""
        return Budget(self.began, self.seconds, share, self.clock)
