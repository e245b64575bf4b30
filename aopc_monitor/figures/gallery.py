"""Images and their heatmaps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopc_monitor.figures.rendering import own_settings
from aopc_monitor.figures.style import PAGE, Style

# What fits above an image, and beside it.
LONGEST_CAPTION, LONGEST_NAME = 10, 15
# Negative relevance below this share of the largest magnitude is rounding.
ROUNDING = 1e-4


@own_settings()
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

    Where an image has more pixels than its place in the picture, blocks of them are averaged, of
    heatmaps too, before their scale is chosen: no pixel is left out.

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
    side = round(style.tile * style.dots_per_inch)
    for axis, image, above in zip(axes[0], images, titles, strict=True):
        _show(axis, pooled(image, side), side)
        caption = _fitting(above, LONGEST_CAPTION, style)
        axis.set_title(caption, fontsize=style.caption, parse_math=False)
    for row, (name, heatmaps) in zip(axes[1:], maps.items(), strict=True):
        _draw_heatmaps(row, heatmaps, side)
        beside = _fitting(name.replace("_", "_\n"), LONGEST_NAME, style) if style.is_small else name
        row[0].set_ylabel(
            beside, fontsize=style.caption, rotation=0, ha="right", va="center", parse_math=False
        )
    for axis in axes.flat:
        # Behind the image, so that the frame hides no pixel of it.
        axis.spines[:].set(zorder=-1, linewidth=1.6)
        axis.set_xticks([])
        axis.set_yticks([])
    if title:
        figure.suptitle(title, fontsize=style.label, parse_math=False)
    return figure


def pooled(image: NDArray[Any], side: int) -> NDArray[Any]:
    """An image in at most so many pixels: means of square blocks, smaller ones at the far edges.

    Args:
        image: (H, W) or (H, W, channels).
        side: the most pixels that a side of the result has.

    Returns:
        The same kind of array: the image itself where it is small enough.

    Example:
        >>> pooled(np.array([[0.0, 2.0, 5.0]]), side=2)
        array([[1., 5.]])
    """
    block = math.ceil(max(image.shape[:2]) / side)
    if block == 1:
        return image
    for axis in (0, 1):
        starts = np.arange(0, image.shape[axis], block)
        lengths = np.diff(starts, append=image.shape[axis])
        sums = np.add.reduceat(image, starts, axis=axis, dtype=float)
        image = sums / lengths.reshape([-1 if a == axis else 1 for a in range(image.ndim)])
    return image


def _size(rows: int, columns: int, title: str, style: Style) -> tuple[float, float]:
    if style.is_small:
        above = 5 * style.caption / 72 if title else 3 * style.caption / 72
        return 0.9 + style.tile * columns, style.tile * rows + above
    return 1.9 + style.tile * columns, 1.0 * rows + 0.5


def _draw_heatmaps(row: Any, heatmaps: NDArray[Any], side: int) -> None:
    # A method without signs may fall a rounding error below zero.
    is_signed = bool(heatmaps.min() < -ROUNDING * np.abs(heatmaps).max())
    for axis, heatmap in zip(row, (pooled(heatmap, side) for heatmap in heatmaps), strict=True):
        limit = max(float(np.percentile(np.abs(heatmap), 99.5)), 1e-30)
        lowest = -limit if is_signed else 0.0
        colours = "bwr" if is_signed else "Reds"
        _show(axis, heatmap, side, cmap=colours, vmin=lowest, vmax=limit)


def _show(axis: Any, image: NDArray[Any], side: int, **colours: Any) -> None:
    # Text around the images makes their places smaller than a tile, but not half as large: larger
    # ones may have to shrink once more, which "nearest" does by leaving pixels out.
    is_enlarged = max(image.shape[:2]) <= side / 2
    axis.imshow(image, interpolation="nearest" if is_enlarged else "antialiased", **colours)


def _fitting(text: str, longest: int, style: Style) -> str:
    """Each line of a text, cut where it would run into an image."""
    if not style.is_small:
        return text
    lines = text.splitlines()
    cut = [line if len(line) <= longest else line[: longest - 1] + "…" for line in lines]
    return "\n".join(cut)
