from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from aopc_monitor.figures import Line
from recipes.shared.heatmap_figures import complexity, lines_over_steps, styles
from recipes.shared.heatmap_study import OF_THE_PAPER, known_names


def test_all_heatmaps_can_be_told_apart() -> None:
    looks = [tuple(sorted(style.items())) for style in styles([*known_names(), "random"]).values()]
    assert len(set(looks)) == len(looks)


def test_those_of_the_paper_look_the_same_in_every_study() -> None:
    everything = styles(known_names())
    for name in OF_THE_PAPER:
        assert styles([name, "occlusion"])[name] == everything[name]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_each_panel_has_its_lines_and_bands(count: int) -> None:
    lines = {"lrp": Line([0.0, 0.1, 0.2], [0.01] * 3), "occlusion": Line([0.0, 0.2, 0.3])}
    panels = {f"{size} x {size}": lines for size in range(1, count + 1)}
    figure = lines_over_steps(panels, "the random order", "digits")
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown] == list(panels)
    drawn = {line.get_label(): line for line in shown[-1].get_lines()}
    assert drawn["occlusion"].get_ydata().tolist() == [0.0, 0.2, 0.3]
    assert drawn["occlusion"].get_xdata().tolist() == [1, 2, 3]
    assert len(shown[-1].collections) == 1
    figure.canvas.draw()


def test_boxes_and_means() -> None:
    rng = np.random.default_rng(0)
    values = {
        name: {"png": (100 * n + rng.random(30)).tolist(), "entropy": rng.random(30).tolist()}
        for n, name in enumerate(("sensitivity_l2", "lrp"), start=1)
    }
    figure = complexity(values, {"png": "PNG size in bytes", "entropy": "Entropy"}, "digits")
    scatter, sizes, _ = figure.axes
    assert scatter.get_xlabel() == "PNG size in bytes"
    # Simplest first, whatever the order of the names.
    assert [label.get_text() for label in sizes.get_xticklabels()] == ["sensitivity_l2", "lrp"]
    figure.canvas.draw()
