from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from aopc_monitor.figures import Line, heatmap_gallery, training_progress


def test_both_axes_show_what_they_were_given(tmp_path: Path) -> None:
    steps, accuracy = [0, 10, 100], [0.1, 0.5, 0.9]
    lines = {
        "lrp": Line([0.0, 0.1, 0.3], [0.01, 0.01, 0.02]),
        "random order": Line([0.0, 0.05, 0.1], is_control=True),
    }
    figure = training_progress(steps, lines, accuracy, "title")
    left, right = figure.axes
    assert [list(line.get_ydata()) for line in left.lines] == [
        [0.0, 0.1, 0.3],
        [0.0, 0.05, 0.1],
    ]
    assert list(right.lines[0].get_ydata()) == accuracy
    assert len(left.collections) == 1
    labels = [text.get_text() for text in left.get_legend().get_texts()]
    assert labels == ["lrp", "random order", "test accuracy"]
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_pyplot_is_not_touched() -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    training_progress([0, 1], {"lrp": Line([0.0, 0.1])}, [0.1, 0.2], "")
    assert plt.get_fignums() == before


def test_gallery_shows_zero_as_white_and_signs_as_colours() -> None:
    images = np.zeros((2, 4, 4, 3))
    signed = np.linspace(-1, 3, 32).reshape(2, 4, 4)
    figure = heatmap_gallery(images, {"signed": signed, "unsigned": signed**2}, ["cat", "dog"])
    axes = np.array(figure.axes).reshape(3, 2)
    assert [axis.get_title() for axis in axes[0]] == ["cat", "dog"]
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["", "signed", "unsigned"]
    for axis in axes[1]:
        (picture,) = axis.images
        assert picture.norm.vmin == -picture.norm.vmax
        assert picture.to_rgba(np.array([0.0]))[0, :3].min() > 0.99
        red, _, blue, _ = picture.to_rgba(np.array([picture.norm.vmax]))[0]
        assert red > 0.9 > blue
    assert axes[2, 0].images[0].norm.vmin == 0


def test_gallery_of_a_heatmap_of_zeros_can_be_drawn(tmp_path: Path) -> None:
    figure = heatmap_gallery(np.zeros((1, 4, 4, 3)), {"nothing": np.zeros((1, 4, 4))}, ["cat"])
    figure.savefig(tmp_path / "figure.png")
