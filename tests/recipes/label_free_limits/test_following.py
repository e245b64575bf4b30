from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from recipes.label_free_limits.following import Following

ACCURACY = [0.1, 0.4, 0.6, 0.5, 0.45, 0.3]
RISING = [0.0, 0.1, 0.3, 0.5, 0.6, 0.9]


def test_correlations_are_those_of_scipy() -> None:
    found = Following.of(RISING, ACCURACY)
    assert found.pearson == pytest.approx(pearsonr(RISING, ACCURACY)[0])
    assert found.spearman == pytest.approx(spearmanr(RISING, ACCURACY)[0])
    assert found.late_pearson == pytest.approx(pearsonr(RISING[2:], ACCURACY[2:])[0])
    assert found.late_spearman == pytest.approx(-1.0)


def test_the_peak_and_what_is_lost_beside_it() -> None:
    rising = Following.of(RISING, ACCURACY)
    assert (rising.points, rising.late_points) == (6, 4)
    assert rising.accuracy_lost == pytest.approx(0.6 - 0.3)
    assert Following.of(ACCURACY, ACCURACY).accuracy_lost == 0.0
    assert Following.of([1 - a for a in ACCURACY], ACCURACY).accuracy_lost == pytest.approx(0.5)


def test_three_points_after_the_peak_are_too_few() -> None:
    found = Following.of(RISING, [0.1, 0.2, 0.3, 0.6, 0.5, 0.4])
    assert found.late_points == 3
    assert math.isnan(found.late_spearman)
    assert not math.isnan(found.spearman)


def test_the_first_of_two_equal_peaks_counts() -> None:
    assert Following.of(RISING, [0.1, 0.6, 0.3, 0.6, 0.5, 0.4]).late_points == 5


def test_points_without_a_value_are_left_out() -> None:
    found = Following.of([math.nan, *RISING[1:]], ACCURACY)
    assert found.spearman == pytest.approx(spearmanr(RISING[1:], ACCURACY[1:])[0])
    assert found.accuracy_lost == pytest.approx(0.3)
    assert (found.points, found.late_points) == (5, 4)
    assert Following.of([*RISING[:4], math.nan, math.inf], ACCURACY).late_points == 2
    assert math.isnan(Following.of([math.nan] * 6, ACCURACY).accuracy_lost)


def test_three_points_with_a_value_are_too_few() -> None:
    found = Following.of([math.nan] * 3 + RISING[3:], ACCURACY)
    assert (found.points, found.late_points) == (3, 3)
    assert math.isnan(found.spearman)
    assert math.isnan(found.accuracy_lost)


def test_what_never_changes_does_not_correlate() -> None:
    assert math.isnan(Following.of([0.5] * 6, ACCURACY).pearson)
    assert math.isnan(Following.of(RISING, [0.5] * 6).spearman)


def test_points_that_do_not_follow_each_other_have_no_peak() -> None:
    found = Following.of(RISING, ACCURACY, is_training=False)
    assert found.late_points == 0
    assert math.isnan(found.late_spearman)
    assert math.isnan(found.accuracy_lost)
    assert found.spearman == pytest.approx(spearmanr(RISING, ACCURACY)[0])


values = st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 100)), min_size=1, max_size=20)


@given(values)
def test_ranges(pairs: list[tuple[int, int]]) -> None:
    signal, accuracy = [float(s) for s, _ in pairs], [a / 100 for _, a in pairs]
    found = Following.of(signal, accuracy)
    for value in (found.pearson, found.spearman, found.late_pearson, found.late_spearman):
        assert math.isnan(value) or abs(value) <= 1 + 1e-9
    assert math.isnan(found.accuracy_lost) == (len(pairs) < 4)
    assert len(pairs) < 4 or 0 <= found.accuracy_lost <= 1
    # No rising map of a signal changes ranks or the checkpoint that it chooses.
    mapped = Following.of([s**3 + 7 for s in signal], accuracy)
    assert mapped.accuracy_lost == pytest.approx(found.accuracy_lost, nan_ok=True)
    assert mapped.spearman == pytest.approx(found.spearman, nan_ok=True)


def test_unequal_lengths_are_named() -> None:
    with pytest.raises(ValueError, match="signal has 5 values and accuracy 6"):
        Following.of(RISING[1:], ACCURACY)
