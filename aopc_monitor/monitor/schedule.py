"""When: every N steps, or at given steps."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from aopc_monitor.figures import check_installed
from aopc_monitor.utilities.configured import plain_value

Schedule: TypeAlias = "int | Sequence[int]"


def checked_schedule(every_n_steps: Any, name: str = "every_n_steps") -> Schedule:
    """The schedule in numbers of Python: a number of steps, or increasing steps.

    Raises:
        ValueError: unless it is a number of at least 1, or a sequence of increasing steps.
    """
    plain = plain_value(every_n_steps)
    if isinstance(plain, int) and not isinstance(plain, bool):
        if plain < 1:
            raise ValueError(f"{name}={every_n_steps} must be at least 1")
        return plain
    if not isinstance(plain, Sequence) or isinstance(plain, str):
        raise ValueError(
            f"{name}={every_n_steps!r} must be a number of steps or an increasing sequence of steps"
        )
    increasing = all(a < b for a, b in pairwise(plain))
    if not plain or not all(isinstance(s, int) and s >= 0 for s in plain) or not increasing:
        raise ValueError(
            f"{name}={every_n_steps!r} must hold at least one step, whole numbers that increase"
        )
    return plain


def is_due(every_n_steps: Schedule, last_step: int, step: int) -> bool:
    """Whether a step of the schedule lies after `last_step` and not after `step`.

    A test of crossing, not of divisibility: several optimizer steps may pass between two looks,
    and none at all while gradients accumulate.

    Example:
        >>> is_due(100, last_step=99, step=101), is_due(100, 100, 100), is_due([1, 10], 1, 10)
        (True, False, True)
    """
    if isinstance(every_n_steps, int):
        return step // every_n_steps > last_step // every_n_steps
    return bisect_right(every_n_steps, step) > bisect_right(every_n_steps, last_step)


def log_spaced_steps(last_step: int, count: int, first_step: int = 1) -> list[int]:
    """Steps from `first_step` to `last_step`, as evenly spaced in logarithm as whole numbers allow.

    Args:
        last_step: the last of the steps.
        count: how many; fewer only if there are not so many.
        first_step: the first of the steps.

    Raises:
        ValueError: unless 1 <= first_step < last_step and count is at least 2.

    Example:
        >>> log_spaced_steps(1000, count=4), log_spaced_steps(20, count=8)
        ([1, 10, 100, 1000], [1, 2, 3, 4, 6, 8, 13, 20])
    """
    if not 1 <= first_step < last_step or count < 2:
        raise ValueError(
            f"first_step={first_step}, last_step={last_step}, count={count}: wanted are at least "
            "two steps, 1 <= first_step < last_step"
        )
    steps: list[int] = []
    for index in range(min(count, last_step - first_step + 1)):
        spaced = round(first_step * (last_step / first_step) ** (index / (count - 1)))
        steps.append(max(spaced, steps[-1] + 1 if steps else 1))
    return steps


def schedule_of(given: Any, name: str = "every_n_steps") -> Schedule | None:
    """The schedule, if one was given."""
    return None if given is None else checked_schedule(given, name)


def checked_shown(
    unnamed: tuple[Any, ...], figures: bool, figures_every_n_steps: Any
) -> Schedule | None:
    """The schedule of figures, where these can be made and nothing came without its name."""
    if unnamed:
        listed = ", ".join(map(repr, unnamed))
        raise TypeError(
            f"AOPCMonitor takes nothing but the heatmap without its name, and {listed} came, too: "
            "give settings by name, as in AOPCMonitor('lrp', every_n_steps=500, num_images=64)"
        )
    if figures_every_n_steps is not None and not figures:
        raise ValueError(
            f"figures_every_n_steps={figures_every_n_steps!r} makes no figure without "
            "figures=True: give that, too, or leave it out"
        )
    if figures:
        check_installed()
    return schedule_of(figures_every_n_steps, "figures_every_n_steps")
