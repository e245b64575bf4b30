"""How well a signal follows accuracy over the points of one run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr

FEWEST_POINTS = 4


@dataclass(frozen=True)
class Following:
    """A signal and accuracy over one run; NaN is what could not be told.

    Attributes:
        pearson: correlation over all points.
        spearman: rank correlation over all points.
        late_pearson: correlation from the accuracy peak on.
        late_spearman: rank correlation from the accuracy peak on.
        accuracy_lost: best accuracy minus that at the signal's maximum, 0 to 1.
        points: how many have a value of the signal.
        late_points: how many of them from the peak on.
    """

    pearson: float
    spearman: float
    late_pearson: float
    late_spearman: float
    accuracy_lost: float
    points: int
    late_points: int

    @classmethod
    def of(
        cls, signal: Sequence[float], accuracy: Sequence[float], is_training: bool = True
    ) -> Following:
        """Compare a signal with accuracy.

        Args:
            signal: one value per point; NaN for none, and then the point does not count.
            accuracy: at the same points, 0 to 1.
            is_training: whether the points follow each other, so that there is a before and after
                the accuracy peak, and a point to stop at.

        Raises:
            ValueError: unless there are as many values as accuracies, at least one.

        Example:
            >>> found = Following.of([0.1, 0.2, 0.3, 0.4], [0.4, 0.5, 0.7, 0.6])
            >>> round(found.spearman, 3), round(found.accuracy_lost, 3), found.late_points
            (0.8, 0.1, 2)
        """
        if len(signal) != len(accuracy) or not signal:
            raise ValueError(
                f"signal has {len(signal)} values and accuracy {len(accuracy)}; give one of each "
                "per point"
            )
        values, truth = np.asarray(signal, float), np.asarray(accuracy, float)
        known = np.isfinite(values)
        points = int(known.sum())
        pearson, spearman = correlations(values, truth)
        if not is_training:
            return cls(pearson, spearman, math.nan, math.nan, math.nan, points, 0)
        peak = int(truth.argmax())
        late = correlations(values[peak:], truth[peak:])
        lost = math.nan
        if points >= FEWEST_POINTS:
            lost = float(truth[peak] - truth[np.where(known, values, -np.inf).argmax()])
        return cls(pearson, spearman, *late, lost, points, int(known[peak:].sum()))


def correlations(values: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[float, float]:
    """Pearson and Spearman correlation where both are known; NaN for too few or constant values.

    Args:
        values: (K,), NaN for no value.
        truth: (K,).
    """
    known = np.isfinite(values)
    values, truth = values[known], truth[known]
    if len(values) < FEWEST_POINTS or not np.ptp(values) or not np.ptp(truth):
        return math.nan, math.nan
    return float(pearsonr(values, truth)[0]), float(spearmanr(values, truth)[0])
