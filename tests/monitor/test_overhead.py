from __future__ import annotations

import pytest

from aopc_monitor import AOPCMonitor
from aopc_monitor.monitor.overhead import Overhead


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_share_never_exceeds_the_limit_when_asked_before_each() -> None:
    clock = Clock()
    overhead = Overhead(clock)
    made = 0
    for step in range(1000):
        clock.now += 1.0
        if step % 10 == 0 and (made == 0 or overhead.allows(overhead.last, 0.05)):
            with overhead.timed():
                clock.now += 2.0
            made += 1
            assert made == 1 or overhead.share() <= 0.05
    assert made > 20
    assert overhead.spent == 2.0 * made


def test_a_failure_costs_time_too() -> None:
    clock = Clock()
    overhead = Overhead(clock)

    def fail() -> None:
        with overhead.timed():
            clock.now += 3.0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert overhead.last == overhead.spent == 3.0


@pytest.mark.parametrize("wrong", [0, 1, -0.1, "5%", True])
def test_wrong_shares_are_named(wrong: object) -> None:
    with pytest.raises(ValueError, match="max_overhead="):
        AOPCMonitor(max_overhead=wrong)  # type: ignore[arg-type]


def test_figures_are_counted_beside_evaluations() -> None:
    clock = Clock()
    overhead = Overhead(clock)
    with overhead.timed():
        clock.now += 2.0

    def fail() -> None:
        with overhead.drawing():
            clock.now += 1.0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (overhead.last, overhead.last_figures, overhead.spent) == (2.0, 1.0, 3.0)
