from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("matplotlib")

from matplotlib.collections import LineCollection

from aopc_monitor.figures import DASHBOARD, PAGE, series_gallery
from aopc_monitor.figures.coloured_lines import few_points, most_relevant_regions


@given(st.integers(1, 3000), st.integers(0, 100))
def test_no_peak_is_left_out_of_a_long_series(length: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal(length)
    places, shown, strength = few_points(values, np.abs(values), most=50)
    assert len(places) == len(shown) == len(strength) <= 100 or length <= 100
    assert (shown == values[places]).all()
    assert shown.max() == values.max()
    assert shown.min() == values.min()
    assert (np.diff(places) >= 0).all()


def test_channels_stand_below_each_other_in_the_colours_of_their_relevance() -> None:
    series = np.arange(20.0).reshape(1, 2, 10)
    heatmap = np.array([[0, 0, 0, 1, 1, 0, 0, -1, -1, 0.0]])
    (axis,) = series_gallery(series, {"lrp": heatmap}, ["run\n91%"]).axes
    first, second = lines = axis.collections
    assert all(isinstance(line, LineCollection) for line in lines)
    for line in lines:
        assert line.get_array().tolist()[3] == 1.0
        assert line.get_array().tolist()[7] == -1.0
        widths = line.get_linewidths()
        assert widths[3] == 3 * widths[0]
    lowest = min(point[1] for segment in first.get_segments() for point in segment)
    highest = max(point[1] for segment in second.get_segments() for point in segment)
    assert lowest > highest
    assert axis.get_title(loc="left") == "run, 91%"


def test_channels_that_are_left_out_are_told() -> None:
    figure = series_gallery(np.zeros((1, 20, 5)), {"lrp": np.ones((1, 5))}, [""], style=DASHBOARD)
    assert figure.axes[0].get_title(loc="right") == "6 of 20 channels"
    figure = series_gallery(np.zeros((1, 12, 5)), {"lrp": np.ones((1, 5))}, [""], style=PAGE)
    assert figure.axes[0].get_title(loc="right") == ""


def test_regions_that_are_perturbed_stand_on_grey() -> None:
    regions = np.array([[0, 0, 1, 1, 2, 2, -1]])
    heatmap = np.array([[1, 1, 5, 5, 3, 3, 9.0]])
    figure = series_gallery(
        np.zeros((1, 1, 7)), {"lrp": heatmap}, ["run"], regions=regions, perturbed=2
    )
    (axis,) = figure.axes
    spans = sorted((patch.get_x(), patch.get_width()) for patch in axis.patches)
    assert spans == [(1.5, 2.0), (3.5, 2.0)]
    assert axis.get_xticks(minor=True).tolist() == [1.5, 3.5, 5.5]
    assert axis.get_xlabel() == "step (on grey: perturbed)"


def test_regions_are_ranked_by_their_mean() -> None:
    heatmap, regions = np.array([5.0, 0, 3, 2, 9]), np.array([0, 0, 1, 1, -1])
    assert most_relevant_regions(heatmap, regions, 5).tolist() == [0, 1]
    assert most_relevant_regions(-heatmap, regions, 1).tolist() == [0]
