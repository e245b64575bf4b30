"""Images and their heatmaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopc_monitor.figures.style import PAGE, Style

# What fits above an image, and beside it.
LONGEST_CAPTION, LONGEST_NAME = 10, 15


def heatmap_gallery(
    images: NDArray[Any],
    maps: Mapping[str, NDArray[Any]],
    titles: Sequence[str],
    title: str = "",
    style: Style = PAGE,
) -> Any:
    """Images above their heatmaps, one row for each method.

    Relevance of a method that has both signs is red where it speaks for the class, blue where it
    speaks against it, white at zero; of a method without signs, dark red where it is high. Each
    heatmap has its own scale, up to the 99.5th percentile of its magnitude, since only the order
    within an image counts.

    Args:
        images: (N, H, W, 3) from 0 to 1.
        maps: (N, H, W) by name.
        titles: N short texts above the images, such as the explained class.
        title: text above all.
        style: sizes.

    Returns:
        A matplotlib Figure: `figure.savefig(path)`.

    Example:
        >>> images = np.random.default_rng(0).random((2, 8, 8, 3))
        >>> figure = heatmap_gallery(images, {"lrp": images.mean(axis=3) - 0.5}, ["cat", "dog"])
        >>> len(figure.axes)
        4
    """
    from matplotlib.figure import Figure

    rows, columns = len(maps) + 1, len(images)
    size = _size(rows, columns, title, style)
    figure = Figure(figsize=size, dpi=style.dots_per_inch, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, image, above in zip(axes[0], images, titles, strict=True):
        axis.imshow(image, interpolation="nearest")
        axis.set_title(_fitting(above, LONGEST_CAPTION, style), fontsize=style.caption)
    for row, (name, heatmaps) in zip(axes[1:], maps.items(), strict=True):
        _draw_heatmaps(row, heatmaps)
        beside = _fitting(name.replace("_", "_\n"), LONGEST_NAME, style) if style.is_small else name
        row[0].set_ylabel(beside, fontsize=style.caption, rotation=0, ha="right", va="center")
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    if title:
        figure.suptitle(title, fontsize=style.label)
    return figure


def _size(rows: int, columns: int, title: str, style: Style) -> tuple[float, float]:
    if style.is_small:
        above = 5 * style.caption / 72 if title else 3 * style.caption / 72
        return 0.9 + style.tile * columns, style.tile * rows + above
    return 1.9 + style.tile * columns, 1.0 * rows + 0.5


def _draw_heatmaps(row: Any, heatmaps: NDArray[Any]) -> None:
    is_signed = bool((heatmaps < 0).any())
    for axis, heatmap in zip(row, heatmaps, strict=True):
        limit = max(float(np.percentile(np.abs(heatmap), 99.5)), 1e-30)
        lowest = -limit if is_signed else 0.0
        colours = "bwr" if is_signed else "Reds"
        axis.imshow(heatmap, cmap=colours, vmin=lowest, vmax=limit, interpolation="nearest")


def _fitting(text: str, longest: int, style: Style) -> str:
    """Each line of a text, cut where it would run into an image."""
    if not style.is_small:
        return text
    lines = text.splitlines()
    cut = [line if len(line) <= longest else line[: longest - 1] + "…" for line in lines]
    return "\n".join(cut)
