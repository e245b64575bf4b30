from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from recipes.label_free_limits.figures import figure_of_correlations
from recipes.label_free_limits.plan import Group
from recipes.label_free_limits.signals import Signal
from recipes.label_free_limits.study import LimitsRun, LimitsStudy
from recipes.shared.training.beside import ACCURACY


def test_a_cell_has_a_value_only_if_all_seeds_have_one() -> None:
    accuracy = [0.1, 0.2, 0.3, 0.4]
    runs = [
        LimitsRun(seed, [
            {ACCURACY: a, "whole": a, "partly": math.nan if seed else a} for a in accuracy
        ])
        for seed in (0, 1)
    ]  # fmt: skip
    both = [Signal(name, name, lambda seen: 0.0) for name in ("whole", "partly")]
    group = Group("clean", "small_cnn", (0, 1))
    figure = figure_of_correlations(LimitsStudy("images", both, {group: runs}))
    cells = np.ma.filled(figure.axes[0].images[0].get_array(), math.nan)
    assert cells[0, 0] == pytest.approx(1.0)
    assert math.isnan(cells[1, 0])
    # The peak is the last point.
    assert np.isnan(cells[:, 1]).all()
