"""Rows of a table as bars: the relevance of each feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopc_monitor.figures.picture_grid import beside
from aopc_monitor.figures.rendering import own_settings
from aopc_monitor.figures.style import AGAINST_COLOUR, FOR_COLOUR, PAGE, Style

MOST_FEATURES, LONGEST_FEATURE = 6, 15
# Of a feature's place, which has height 1: where its name and its bar stand.
BELOW, BAR_HEIGHT = 0.23, 0.36


@own_settings()
def bar_gallery(
    table: NDArray[Any],
    maps: Mapping[str, NDArray[Any]],
    titles: Sequence[str],
    title: str = "",
    style: Style = PAGE,
    *,
    features: Sequence[str] | None = None,
) -> Any:
    """Rows of a table side by side, the relevance of their features as bars.

    Of each row and method the six features with most relevance of either sign, most first, with
    the value that the row has there. A red bar to the right speaks for the class, a blue one to the
    left against it; each panel has its own scale.

    Args:
        table: (N, F).
        maps: (N, F) by name.
        titles: N short texts, such as the explained class.
        title: text above all.
        style: sizes.
        features: F names of the features.

    Returns:
        A matplotlib Figure: `figure.savefig(path)`.

    Example:
        >>> table = np.random.default_rng(0).random((2, 5))
        >>> figure = bar_gallery(table, {"lrp": table - 0.5}, ["ill", "healthy"])
        >>> len(figure.axes)
        2
    """
    from matplotlib.figure import Figure

    names = features or [f"feature {number}" for number in range(table.shape[1])]
    bars, of_bar = min(table.shape[1], MOST_FEATURES), 2.4 * style.caption / 72
    size = (0.9 + 1.9 * len(table), 0.9 + len(maps) * (of_bar * bars + 0.2))
    figure = Figure(figsize=size, dpi=style.dots_per_inch, layout="constrained")
    axes = figure.subplots(len(maps), len(table), squeeze=False)
    for places, (name, heatmaps) in zip(axes, maps.items(), strict=True):
        for axis, row, heatmap in zip(places, table, heatmaps, strict=True):
            _draw(axis, row, heatmap, names, style)
        places[0].set_ylabel(
            beside(name, style), fontsize=style.caption, rotation=0, ha="right", va="center",
            parse_math=False,
        )  # fmt: skip
    for axis, above in zip(axes[0], titles, strict=True):
        axis.set_title(above, fontsize=style.caption, parse_math=False)
    if title:
        figure.suptitle(title, fontsize=style.label, parse_math=False)
    return figure


def _draw(
    axis: Any, row: NDArray[Any], heatmap: NDArray[Any], names: Sequence[str], style: Style
) -> None:
    first = np.argsort(-np.abs(heatmap), kind="stable")[:MOST_FEATURES]
    limit = max(float(np.abs(heatmap).max()), 1e-30)
    colours = [FOR_COLOUR if heatmap[i] >= 0 else AGAINST_COLOUR for i in first]
    places = np.arange(len(first))
    axis.barh(places + BELOW, heatmap[first] / limit, color=colours, height=BAR_HEIGHT)
    size = style.legend - 3 if style.is_small else style.legend
    for place, feature in zip(places, first, strict=True):
        told = f"{_cut(names[feature])} = {row[feature]:.3g}"
        axis.text(-1.02, place - BELOW, told, va="center", fontsize=size, parse_math=False)
    axis.axvline(0, color="black", lw=0.5, zorder=0)
    axis.set_xlim(-1.05, 1.05)
    axis.set_ylim(len(first) - 0.5, -0.5)
    axis.set_xticks([])
    axis.set_yticks([])


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_FEATURE else name[: LONGEST_FEATURE - 1] + "…"
