from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from recipes.label_free_limits.training import chosen_files, kept_steps, step_of


@given(st.integers(2, 400), st.integers(1, 60))
def test_weights_are_kept_from_the_start_to_the_end(steps_per_epoch: int, epochs: int) -> None:
    kept = kept_steps(steps_per_epoch, epochs)
    assert {0, steps_per_epoch * epochs} <= kept
    assert max(kept) == steps_per_epoch * epochs
    assert {steps_per_epoch * k for k in range(1, epochs + 1)} <= kept


def test_of_a_training_that_ended_early_the_looks_lie_within_it(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    for step in sorted(kept_steps(30, 40)):
        if step <= 600:
            (tmp_path / "weights" / f"step_{step:07d}.pt").touch()
    steps = [step_of(file) for file in chosen_files(tmp_path, 14, looks_late=True)]
    assert (steps[0], steps[-1]) == (0, 600)
    assert len(steps) == 14
    assert len([step for step in steps if step > 210]) == 7
