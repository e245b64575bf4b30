from __future__ import annotations

import math

from recipes.label_free_limits.criteria import verdicts
from recipes.label_free_limits.plan import Group
from recipes.label_free_limits.signals import Signal
from recipes.label_free_limits.study import LimitsRun, LimitsStudy
from recipes.shared.training.beside import ACCURACY

ACCURACIES = [0.1, 0.3, 0.5, 0.6, 0.5, 0.4, 0.3, 0.2]


def study(group: Group, values: list[list[float]]) -> LimitsStudy:
    runs = [
        LimitsRun(seed, [{ACCURACY: a, "good": g, "bad": -g}
                         for a, g in zip(ACCURACIES, signal, strict=True)], group.is_training)
        for seed, signal in enumerate(values)
    ]  # fmt: skip
    both = [Signal(name, name, lambda seen: 0.0) for name in ("good", "bad")]
    return LimitsStudy("images", both, {group: runs})


def test_what_is_met_and_what_is_missed() -> None:
    noise = Group("label_noise", "small_cnn", (0, 1))
    table = verdicts(study(noise, [ACCURACIES, ACCURACIES]), "good", "bad")
    assert table.count(" yes ") == 3
    table = verdicts(study(noise, [ACCURACIES, ACCURACIES]), "bad", "good")
    assert table.count("**no**") == 3


def test_seeds_without_a_value_do_not_pass_in_silence() -> None:
    noise = Group("label_noise", "small_cnn", (0, 1))
    none = verdicts(study(noise, [[math.nan] * 8] * 2), "good", "bad")
    assert none.count("**no**, on 0 of 2 seeds") == 3
    part = verdicts(study(noise, [ACCURACIES, [math.nan] * 8]), "good", "bad")
    assert part.count("yes, on 1 of 2 seeds") == 3


def test_runs_that_were_not_asked_anything_have_no_row() -> None:
    other = Group("less_noise", "small_cnn", (0,))
    assert "less_noise" not in verdicts(study(other, [ACCURACIES]), "good", "bad")
