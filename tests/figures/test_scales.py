from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

pytest.importorskip("matplotlib")

from aopc_monitor.figures.scales import behind_words, has_signs, limit_of, line_colours, strengths

FINITE = st.floats(-1e6, 1e6)


@given(hnp.arrays(float, st.integers(1, 40), elements=FINITE))
def test_strengths_keep_order_and_sign(heatmap: np.ndarray) -> None:
    found = strengths(heatmap)
    assert (np.abs(found) <= 1).all()
    assert (np.sign(found) * np.sign(heatmap) >= 0).all()
    assert (np.diff(found[np.argsort(heatmap, kind="stable")]) >= 0).all()


def test_a_heatmap_of_zeros_and_an_empty_one_have_a_scale() -> None:
    assert strengths(np.zeros(3)).tolist() == [0.0] * 3
    assert limit_of(np.zeros(0)) == 1.0
    assert not has_signs(np.zeros(0))


def test_zero_is_grey_on_lines_and_white_behind_words() -> None:
    red, green, blue, _ = line_colours()(0.5)
    assert red == pytest.approx(green, abs=0.01) == pytest.approx(blue, abs=0.01)
    assert behind_words(0.0) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("strength", [-1.0, -0.5, 0.5, 1.0])
def test_black_words_are_read_on_their_colour(strength: float) -> None:
    """The contrast that WCAG 2.1 asks for, 4.5 to 1."""
    linear = np.where(
        (colour := np.array(behind_words(strength))) <= 0.04045,
        colour / 12.92,
        ((colour + 0.055) / 1.055) ** 2.4,
    )
    assert (linear @ [0.2126, 0.7152, 0.0722] + 0.05) / 0.05 > 4.5


# What people without red or without green cones see, by Machado et al. 2009, table of severity 1.
DEUTERANOPIA = [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
]
PROTANOPIA = [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
]


@pytest.mark.parametrize("matrix", [DEUTERANOPIA, PROTANOPIA])
def test_for_and_against_are_told_apart_by_colour_blind_people(matrix: list[list[float]]) -> None:
    def seen(colour: tuple[float, ...]) -> np.ndarray:
        return np.clip(np.array(matrix) @ np.array(colour) ** 2.2, 0, 1) ** (1 / 2.2)

    colours = line_colours()
    for one, other in (
        (behind_words(1.0), behind_words(-1.0)),
        (colours(1.0)[:3], colours(0.0)[:3]),
        (colours(1.0)[:3], colours(0.5)[:3]),
        (colours(0.0)[:3], colours(0.5)[:3]),
    ):
        assert np.linalg.norm(seen(one) - seen(other)) > 0.3
