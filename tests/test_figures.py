from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from aopc_monitor.figures import Line, training_progress


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
