"""The picture of each kind of input shows what it was given."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pytest

from aopc_monitor.figures import DASHBOARD, GALLERIES, PAGE, Style, gallery_of, rendered
from aopc_monitor.figures.slices import most_relevant_frames, most_relevant_place

WORDS = [["a", "great", "film"], ["the", "acting", "saves", "a", "rather", "long", "story"]]
SHAPES = {
    "images": (2, 8, 8, 3),
    "series": (2, 3, 60),
    "volumes": (2, 5, 6, 7, 3),
    "videos": (2, 9, 6, 7, 3),
    "tables": (2, 5),
}


def inputs_and_heatmap(kind: str) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    if kind == "texts":
        return WORDS, [random.standard_normal(len(words)) for words in WORDS]
    shape = SHAPES[kind]
    space = {"series": shape[2:], "tables": shape[1:]}.get(kind, shape[1:-1])
    return random.random(shape), random.standard_normal((2, *space))


def figure_of(kind: str, style: Style = DASHBOARD, name: str = "lrp", **more: Any) -> Any:
    inputs, heatmap = inputs_and_heatmap(kind)
    squared = [h**2 for h in heatmap] if kind == "texts" else heatmap**2
    maps = {name: heatmap, "sensitivity_l2": squared}
    return gallery_of(kind, inputs, maps, ["cat\n91%", "dog\n55%"], "step 5", style, **more)


def texts_of(figure: Any) -> list[str]:
    found = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
    return [text for text in found if text]


@pytest.mark.parametrize("style", [DASHBOARD, PAGE], ids=["dashboard", "page"])
@pytest.mark.parametrize("kind", GALLERIES)
def test_each_kind_has_a_picture_with_titles_and_methods(kind: str, style: Style) -> None:
    figure = figure_of(kind, style)
    said = "\n".join(texts_of(figure))
    for wanted in ("cat", "dog", "91%", "lrp", "sensitivity", "step 5"):
        assert wanted in said
    assert np.ptp(rendered(figure)) > 200


@pytest.mark.parametrize("kind", GALLERIES)
def test_settings_of_the_user_break_no_picture(kind: str) -> None:
    pictures = []
    for settings in ({}, {"text.usetex": True, "font.size": 40.0, "axes.facecolor": "black"}):
        with matplotlib.rc_context(settings):
            pictures.append(rendered(figure_of(kind, name="$^$")))
    assert np.array_equal(*pictures)


@pytest.mark.parametrize("kind", GALLERIES)
def test_a_heatmap_of_zeros_can_be_drawn(kind: str) -> None:
    inputs, heatmap = inputs_and_heatmap(kind)
    zeros = [0 * h for h in heatmap] if kind == "texts" else 0 * heatmap
    rendered(gallery_of(kind, inputs, {"nothing": zeros}, ["", ""], style=DASHBOARD))


def test_a_kind_without_a_picture_is_told() -> None:
    with pytest.raises(
        ValueError, match="kind='graphs' has no picture: choose one of images, series"
    ):
        gallery_of("graphs", None, {}, [])


def test_slices_go_through_the_place_of_most_relevance() -> None:
    volumes, heatmaps = np.zeros((1, 5, 6, 7, 3)), np.zeros((1, 5, 6, 7))
    heatmaps[0, 3, 1, 5] = 2.0
    figure = gallery_of("volumes", volumes, {"lrp": heatmaps}, ["tumour\n91%"])
    above, below = figure.axes[:3], figure.axes[3:]
    assert [axis.get_title() for axis in above] == ["tumour\n91%\nD 4", "H 2", "W 6"]
    planes = [axis.images[0].get_array() for axis in below]
    assert [plane.shape for plane in planes] == [(6, 7), (5, 7), (5, 6)]
    assert [float(plane.max()) for plane in planes] == [2.0] * 3
    # One scale for a volume, whichever slice.
    assert len({axis.images[0].norm.vmax for axis in below}) == 1


def test_each_method_counts_as_much_for_the_place() -> None:
    large, small = np.zeros((2, 4, 4, 4))
    large[0, 0, 0], small[2, 3, 1] = 1e6, 1e-6
    small[2, 3, 2] = 0.9e-6
    assert most_relevant_place([large, small])[:2] == (2, 3)


def test_of_each_part_of_a_video_the_most_relevant_frame_is_shown() -> None:
    heatmap = np.zeros((12, 2, 2))
    heatmap[[1, 3, 4, 7, 8, 11]] = 1.0
    assert most_relevant_frames([heatmap]) == [1, 3, 4, 7, 8, 11]
    assert most_relevant_frames([heatmap[:3]]) == [0, 1, 2]
    figure = gallery_of("videos", np.zeros((1, 12, 2, 2, 3)), {"lrp": heatmap[None]}, ["run\n91%"])
    assert [axis.get_title() for axis in figure.axes[:6]] == ["2", "4", "5", "8", "9", "12"]
    assert figure.axes[0].get_ylabel() == "run\n91%"


def test_bars_show_the_features_of_most_relevance_with_their_values() -> None:
    table, relevance = np.arange(8.0)[None], np.array([[0.1, -4, 0, 1, 2, 3, 0, 0]])
    names = ["age", "weight, a name that is very long", *"cdefgh"]
    figure = gallery_of("tables", table, {"lrp": relevance}, ["ill"], features=names)
    (axis,) = figure.axes
    said = [text.get_text() for text in axis.texts]
    assert said[:3] == ["weight, a name… = 1", "f = 5", "e = 4"]
    assert len(said) == 6
    assert [bar.get_width() for bar in axis.patches[:3]] == [-1.0, 0.75, 0.5]
