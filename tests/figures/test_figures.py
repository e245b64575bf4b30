from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import matplotlib
from matplotlib.image import imread

from aopc_monitor.figures import (
    DASHBOARD,
    PAGE,
    Line,
    Style,
    heatmap_gallery,
    perturbation_curves,
    rendered,
    training_progress,
    write_png,
)
from aopc_monitor.figures.picture_grid import borders, pooled


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


def test_images_may_stand_left_of_their_heatmaps() -> None:
    images, signed = np.zeros((2, 4, 4, 3)), np.linspace(-1, 1, 32).reshape(2, 4, 4)
    maps = {"signed": signed, "unsigned": signed**2}
    figure = heatmap_gallery(images, maps, ["cat", "dog"], across=True)
    axes = np.array(figure.axes).reshape(2, 3)
    assert [axis.get_title() for axis in axes[0]] == ["", "signed", "unsigned"]
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["cat", "dog"]
    for row, images_and_maps in enumerate(zip(images, signed, signed**2, strict=True)):
        for axis, shown in zip(axes[row], images_and_maps, strict=True):
            np.testing.assert_array_equal(axis.images[0].get_array(), shown)


def test_gallery_of_a_heatmap_of_zeros_can_be_drawn(tmp_path: Path) -> None:
    figure = heatmap_gallery(np.zeros((1, 4, 4, 3)), {"nothing": np.zeros((1, 4, 4))}, ["cat"])
    figure.savefig(tmp_path / "figure.png")


def test_steps_are_spaced_by_their_logarithm_only_where_most_lie_early() -> None:
    for steps, scale in (([0, 1, 3, 10, 100], "symlog"), ([0, 10, 20, 30], "linear")):
        line = Line([0.1] * len(steps))
        figure = training_progress(steps, {"lrp": line}, [0.5] * len(steps), "")
        assert figure.axes[0].get_xscale() == scale


def test_a_single_evaluation_can_be_drawn() -> None:
    line = Line([0.1], [float("nan")])
    figure = training_progress([0], {"lrp": line}, [0.5], "", style=DASHBOARD)
    assert rendered(figure).shape == (352, 480, 3)


def test_values_that_are_missing_are_bridged() -> None:
    line = Line([0.1, float("nan"), 0.3], [0.01, float("nan"), 0.01])
    figure = training_progress([0, 1, 2], {"lrp": line}, [0.5] * 3, "")
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[0.0, 0.1], [2.0, 0.3]]


def test_three_panels_leave_the_fourth_place_empty() -> None:
    curves = {"most relevant first": Line([1.0, 0.5]), "random": Line([1.0, 0.8], is_control=True)}
    figure = perturbation_curves(dict.fromkeys("abc", curves), "probability", "step 5")
    assert [axis.axison for axis in figure.axes] == [True, True, True, False]
    assert [axis.get_xlabel() for axis in figure.axes[:3]] == ["", *["regions perturbed"] * 2]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(curves)


def test_small_galleries_cut_names_that_would_run_into_each_other() -> None:
    maps = {"guided_backpropagation_of_everything": np.zeros((1, 4, 4))}
    figure = heatmap_gallery(
        np.zeros((1, 4, 4, 3)), maps, ["a long-haired cat\n91%"], "t", DASHBOARD
    )
    assert figure.axes[0].get_title() == "a long-ha…\n91%"
    assert figure.axes[1].get_ylabel() == "guided_\nbackpropagatio…\nof_\neverything"


def test_rounding_below_zero_makes_no_heatmap_signed() -> None:
    heatmap = np.linspace(0.0, 1.0, 16).reshape(1, 4, 4)
    almost, signed = heatmap - 1e-6, heatmap - 0.1
    figure = heatmap_gallery(np.zeros((1, 4, 4, 3)), {"almost": almost, "signed": signed}, ["cat"])
    colours = [axis.get_images()[0].get_cmap().name for axis in figure.axes[1:]]
    assert colours == ["Reds", "bwr"]


def test_few_colours_are_close_to_the_true_ones(tmp_path: Path) -> None:
    lines = {"lrp": Line([0.0, 0.3], [0.1, 0.1])}
    figure = training_progress([0, 1], lines, [0.1, 0.5], "title", style=DASHBOARD)
    pixels = rendered(figure)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) <= 256
    figure.savefig(tmp_path / "true.png")
    write_png(pixels, tmp_path / "folder" / "few.png")
    few, true = (imread(tmp_path / name) for name in ("folder/few.png", "true.png"))
    # No colour becomes another: bands differ by little.
    assert np.abs(few - true[:, :, :3]).max() < 0.06


@pytest.mark.parametrize("style", [DASHBOARD, PAGE], ids=["dashboard", "page"])
def test_one_column_of_a_large_heatmap_is_seen_wherever_it_is(style: Style) -> None:
    blank, _ = red_of(np.zeros((224, 224)), style)
    assert blank == 0
    for column in (0, 1, 2, 50, 111, 112, 113, 222, 223):
        heatmap = np.zeros((224, 224))
        heatmap[:, column] = 1.0
        count, place = red_of(heatmap, style)
        assert count > 40
        assert place == pytest.approx(column / 224, abs=0.03)


def red_of(heatmap: np.ndarray, style: Style) -> tuple[int, float]:
    """How many pixels of a drawn heatmap are red, and where, from 0 (left) to 1."""
    black = np.zeros((1, *heatmap.shape, 3))
    figure = heatmap_gallery(black, {"lrp": heatmap[None]}, ["cat\n91%"], "title", style)
    pixels = rendered(figure).astype(int)
    box = figure.axes[1].get_window_extent()
    _, x = np.nonzero(pixels[:, :, 0] - pixels[:, :, 2] > 30)
    return len(x), float((x.mean() - box.x0) / box.width) if len(x) else 0.0


def test_blocks_are_averaged_whatever_the_size() -> None:
    image = np.random.default_rng(0).random((7, 10, 3)).astype(np.float32)
    few = pooled(image, side=4)
    assert few.shape == (3, 4, 3)
    np.testing.assert_allclose(few[0, 0], image[:3, :3].mean(axis=(0, 1)), rtol=1e-6)
    np.testing.assert_allclose(few[2, 3], image[6, 9], rtol=1e-6)
    assert pooled(image, side=10) is image


def test_settings_of_the_user_break_no_picture() -> None:
    names = {"$^$": np.eye(4)[None]}
    line = {"$^$": Line([0.0, 0.1])}

    def pictures() -> list[np.ndarray]:
        figures = (
            heatmap_gallery(np.zeros((1, 4, 4, 3)), names, ["$a$^"], "$^$", DASHBOARD),
            training_progress([0, 1], line, [0.1, 0.2], "$^$", "$^$", "$^$", DASHBOARD),
            training_progress([0, 1], line, [0.1, 0.2], "$^$"),
            perturbation_curves({"$^$": line}, "$^$", "$^$", DASHBOARD),
            perturbation_curves({"$^$": line, "$_$": line}, "$^$", "$^$", DASHBOARD),
        )
        return [rendered(figure) for figure in figures]

    plain = pictures()
    mine = {"text.usetex": True, "font.size": 40.0, "axes.facecolor": "black"}
    with matplotlib.rc_context(mine):
        for picture, expected in zip(pictures(), plain, strict=True):
            assert np.array_equal(picture, expected)
        assert all(matplotlib.rcParams[name] == value for name, value in mine.items())


def test_texts_are_shown_as_they_are() -> None:
    figure = heatmap_gallery(np.zeros((1, 4, 4, 3)), {"lrp": np.eye(4)[None]}, ["$a$^"])
    assert figure.axes[0].get_title() == "$a$^"
    assert not figure.axes[0].title.get_parse_math()


def test_borders_of_regions_lie_between_their_pixels() -> None:
    regions = np.array([[0, 0, 1], [0, 2, 1]])
    found = borders(regions)
    assert sorted(found) == [
        [(0.5, 0.5), (0.5, 1.5)],
        [(0.5, 0.5), (1.5, 0.5)],
        [(1.5, -0.5), (1.5, 1.5)],
    ]
    figure = heatmap_gallery(
        np.zeros((1, 2, 3, 3)), {"lrp": np.ones((1, 2, 3))}, ["cat"], regions=regions[None]
    )
    for axis in figure.axes:
        black, white = axis.collections
        assert len(black.get_segments()) == len(white.get_segments()) == 3


def test_borders_count_in_pixels_of_the_whole_image() -> None:
    regions = (np.arange(300) >= 150).astype(int)[None, None].repeat(300, axis=1)
    images, maps = np.zeros((1, 300, 300, 3)), {"lrp": np.ones((1, 300, 300))}
    figure = heatmap_gallery(images, maps, ["cat"], style=DASHBOARD, regions=regions)
    axis = figure.axes[1]
    assert axis.images[0].get_array().shape == (75, 75)
    assert axis.images[0].get_extent() == [-0.5, 299.5, 299.5, -0.5]
    ((line,), _) = (collection.get_segments() for collection in axis.collections)
    assert line[:, 0].tolist() == [149.5, 149.5]
