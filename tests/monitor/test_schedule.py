from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aopc_monitor.monitor.schedule import checked_schedule, is_due, log_spaced_steps


@given(st.integers(1, 50), st.lists(st.integers(0, 7), max_size=60))
def test_every_multiple_is_met_once(every: int, advances: list[int]) -> None:
    step, met = 0, 0
    for advance in advances:
        met += is_due(every, step, step + advance)
        step += advance
    passed = step // every
    assert met <= passed
    if all(advance <= every for advance in advances):
        assert met == passed


@given(st.sets(st.integers(1, 60), min_size=1))
def test_every_listed_step_is_met(steps: set[int]) -> None:
    schedule = sorted(steps)
    assert [s for s in range(1, 61) if is_due(schedule, s - 1, s)] == schedule


@pytest.mark.parametrize("wrong", [0, -3, True, 2.5, "10", [], [3, 3], [5, 2], [1.5], None])
def test_wrong_schedules_are_named(wrong: Any) -> None:
    with pytest.raises(ValueError, match="every_n_steps="):
        checked_schedule(wrong)


@given(st.integers(1, 40), st.integers(1, 5000), st.integers(2, 60))
def test_log_spaced_steps(first: int, more: int, count: int) -> None:
    steps = log_spaced_steps(first + more, count, first)
    checked_schedule(steps)
    assert steps[0] == first
    assert steps[-1] == first + more
    assert len(steps) == min(count, more + 1)


def test_too_few_steps_are_named() -> None:
    with pytest.raises(ValueError, match="first_step=5, last_step=5"):
        log_spaced_steps(5, 10, 5)
