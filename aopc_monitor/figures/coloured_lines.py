"""Series whose lines are coloured by their relevance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopc_monitor.figures.picture_grid import beside
from aopc_monitor.figures.rendering import own_settings
from aopc_monitor.figures.scales import has_signs, line_colours, strengths
from aopc_monitor.figures.style import PAGE, Style

# More channels in one panel, and more points of a line, are not told apart.
MOST_CHANNELS, MOST_IF_SMALL = 12, 6
MOST_BINS = 400
# Weak relevance is to be seen, too: a power of its strength below 1.
COLOUR_POWER = 0.6
# Each channel has a band of height 1, and its line this much of it.
LINE_SHARE = 0.8
PERTURBED_COLOUR = "#E4E4E4"


@own_settings()
def series_gallery(
    series: NDArray[Any],
    maps: Mapping[str, NDArray[Any]],
    titles: Sequence[str],
    title: str = "",
    style: Style = PAGE,
    *,
    regions: NDArray[Any] | None = None,
    perturbed: int = 0,
) -> Any:
    """Series whose lines are coloured by relevance, one panel for each method.

    Red speaks for the class, blue against it, grey for nothing, and the line is the wider the more
    relevance it has; each heatmap has its own scale. Channels stand one below the other, each on a
    scale of its own. Of long series the smallest and the largest value of each of 400 parts are
    drawn, so that no peak is left out, with the mean of their relevance.

    Args:
        series: (N, C, L).
        maps: (N, L) by name.
        titles: N short texts, such as the explained class.
        title: text above all.
        style: sizes.
        regions: (N, L) numbers of regions, -1 for none; their borders are ticks.
        perturbed: how many of them are perturbed, most relevant first: they stand on grey.

    Returns:
        A matplotlib Figure: `figure.savefig(path)`.

    Example:
        >>> series = np.random.default_rng(0).random((2, 3, 100))
        >>> figure = series_gallery(series, {"lrp": series.mean(axis=1) - 0.5}, ["run", "walk"])
        >>> len(figure.axes)
        2
    """
    from matplotlib.figure import Figure

    rows = len(series) * len(maps)
    size = _size(rows, min(series.shape[1], _most_channels(style)), style)
    figure = Figure(figsize=size, dpi=style.dots_per_inch, layout="constrained")
    axes = figure.subplots(rows, 1, squeeze=False, sharex=True)[:, 0]
    signs = {name: has_signs(heatmaps) for name, heatmaps in maps.items()}
    panels = [(i, name) for i in range(len(series)) for name in maps]
    for axis, (i, name) in zip(axes, panels, strict=True):
        _draw(axis, series[i], maps[name][i], signs[name], style)
        if regions is not None:
            _draw_regions(axis, maps[name][i], regions[i], perturbed)
        axis.set_ylabel(
            beside(name, style), fontsize=style.caption, rotation=0, ha="right", va="center",
            parse_math=False,
        )  # fmt: skip
        if name == next(iter(maps)):
            above = ", ".join(titles[i].splitlines())
            axis.set_title(above, fontsize=style.caption, loc="left", parse_math=False)
        axis.set_yticks([])
        axis.tick_params(labelsize=style.legend)
    below = "step (on grey: perturbed)" if perturbed else "step"
    axes[-1].set_xlabel(below, fontsize=style.label)
    if title:
        figure.suptitle(title, fontsize=style.label, parse_math=False)
    return figure


def _most_channels(style: Style) -> int:
    return MOST_IF_SMALL if style.is_small else MOST_CHANNELS


def _size(rows: int, channels: int, style: Style) -> tuple[float, float]:
    of_panel = (0.55 if style.is_small else 0.45) + 0.28 * channels
    return style.width, 0.9 + rows * of_panel


def _draw(
    axis: Any, channels: NDArray[Any], heatmap: NDArray[Any], is_signed: bool, style: Style
) -> None:
    from matplotlib.collections import LineCollection

    shown = channels[: _most_channels(style)]
    strength = strengths(heatmap) if is_signed else np.abs(strengths(heatmap))
    for band, values in enumerate(shown):
        x, y, of_points = few_points(values, strength)
        y = len(shown) - 1 - band + LINE_SHARE * _to_unit(y)
        points = np.stack([x, y], axis=1)
        of_lines = (of_points[:-1] + of_points[1:]) / 2
        shares = np.sign(of_lines) * np.abs(of_lines) ** COLOUR_POWER
        lines = LineCollection(
            list(np.stack([points[:-1], points[1:]], axis=1)), array=shares, cmap=line_colours(),
            clim=(-1, 1), linewidths=style.line * (0.5 + np.abs(of_lines)), capstyle="round",
        )  # fmt: skip
        axis.add_collection(lines)
    axis.set_xlim(-0.5, channels.shape[1] - 0.5)
    axis.set_ylim(-0.15, len(shown) - 0.05)
    if len(shown) < len(channels):
        told = f"{len(shown)} of {len(channels)} channels"
        axis.set_title(told, fontsize=style.legend, loc="right", parse_math=False)


def few_points(
    values: NDArray[Any], strength: NDArray[Any], most: int = MOST_BINS
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """A series in few points: of each of so many parts its ends, up and down.

    Args:
        values: (L,).
        strength: (L,) of its relevance.
        most: how many parts; a series of at most twice as many values stays as it is.

    Returns:
        Places, values and strengths, the mean over a part.

    Example:
        >>> few_points(np.array([1.0, 3.0, 2.0, 0.0, 5.0, 4.0]), np.ones(6), most=2)[:2]
        (array([0, 1, 3, 4]), array([1., 3., 0., 5.]))
    """
    if len(values) <= 2 * most:
        return np.arange(len(values)), values, strength
    parts = np.array_split(np.arange(len(values)), most)
    ends = [sorted((int(p[values[p].argmin()]), int(p[values[p].argmax()]))) for p in parts]
    places = np.array(ends).ravel()
    means = np.repeat([strength[part].mean() for part in parts], 2)
    return places, values[places], means


def _to_unit(values: NDArray[Any]) -> NDArray[Any]:
    width = values.max() - values.min()
    return (values - values.min()) / width if width > 0 else np.full(len(values), 0.5)


def _draw_regions(axis: Any, heatmap: NDArray[Any], regions: NDArray[Any], perturbed: int) -> None:
    for number in most_relevant_regions(heatmap, regions, perturbed):
        for start, end in _runs(regions == number):
            axis.axvspan(start - 0.5, end - 0.5, color=PERTURBED_COLOUR, zorder=0, lw=0)
    edges = np.flatnonzero(regions[1:] != regions[:-1]) + 0.5
    axis.set_xticks(edges, minor=True)
    axis.tick_params(which="minor", length=2, width=0.6)


def most_relevant_regions(
    heatmap: NDArray[Any], regions: NDArray[Any], count: int
) -> NDArray[np.int64]:
    """The numbers of so many regions of the highest mean relevance, highest first.

    Args:
        heatmap: relevance of each place.
        regions: number of the region of each place, -1 for none.
        count: how many.

    Example:
        >>> most_relevant_regions(np.array([1.0, 2.0, 5.0]), np.array([0, 0, 1]), count=1)
        array([1])
    """
    inside = regions >= 0
    sums = np.bincount(regions[inside], weights=heatmap[inside].astype(float))
    sizes = np.bincount(regions[inside])
    means = np.where(sizes > 0, sums / np.maximum(sizes, 1), -np.inf)
    return np.argsort(-means, kind="stable")[:count]


def _runs(mask: NDArray[Any]) -> list[tuple[int, int]]:
    edges = np.diff(np.pad(mask.astype(np.int8), 1))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
