"""Rows of small pictures: images, slices and frames above their heatmaps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopc_monitor.figures.scales import limit_of
from aopc_monitor.figures.style import Style

# What fits above a picture, and beside it.
LONGEST_CAPTION, LONGEST_NAME = 10, 15
# Seen on dark and on bright pictures.
BORDER_COLOURS = (("white", 1.6), ("black", 0.6))


@dataclass(frozen=True)
class Cell:
    """One picture.

    Attributes:
        values: (H, W, 3) from 0 to 1, or relevance (H, W).
        is_signed: whether relevance may speak against the class.
        limit: the magnitude of the full colour; of the pooled values if not given.
        regions: (H, W) numbers of regions whose borders are drawn; None for none.
    """

    values: NDArray[Any]
    is_signed: bool = False
    limit: float | None = None
    regions: NDArray[Any] | None = None


@dataclass(frozen=True)
class Row:
    """Pictures side by side.

    Attributes:
        name: beside them.
        cells: the pictures.
        captions: above them, if any.
    """

    name: str
    cells: Sequence[Cell]
    captions: Sequence[str] | None = None


def picture_grid(rows: Sequence[Row], title: str, style: Style) -> Any:
    """A matplotlib Figure of the rows; where a row has fewer pictures, its end is empty.

    Args:
        rows: at least one, with at least one picture.
        title: text above all.
        style: sizes.
    """
    from matplotlib.figure import Figure

    columns = max(len(row.cells) for row in rows)
    size = _size(rows, columns, title, style)
    figure = Figure(figsize=size, dpi=style.dots_per_inch, layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for places, row in zip(axes, rows, strict=True):
        _draw_row(places, row, style)
    for axis in axes.flat:
        # Behind the image, so that the frame hides no pixel of it.
        axis.spines[:].set(zorder=-1, linewidth=1.6)
        axis.set_xticks([])
        axis.set_yticks([])
    if title:
        figure.suptitle(title, fontsize=style.label, parse_math=False)
    return figure


def _draw_row(places: Sequence[Any], row: Row, style: Style) -> None:
    side = round(style.tile * style.dots_per_inch)
    for axis, cell in zip(places, row.cells, strict=False):
        _draw(axis, cell, side)
    for axis in places[len(row.cells) :]:
        axis.set_axis_off()
    for axis, above in zip(places, row.captions or (), strict=False):
        caption = fitting(above, LONGEST_CAPTION, style)
        axis.set_title(caption, fontsize=style.caption, parse_math=False)
    if row.name:
        places[0].set_ylabel(
            beside(row.name, style), fontsize=style.caption, rotation=0, ha="right", va="center",
            parse_math=False,
        )  # fmt: skip


def _draw(axis: Any, cell: Cell, side: int) -> None:
    few = pooled(cell.values, side)
    if few.ndim == 3:
        _show(axis, few, cell, side)
    else:
        limit = limit_of(few) if cell.limit is None else cell.limit
        lowest, colours = (-limit, "bwr") if cell.is_signed else (0.0, "Reds")
        _show(axis, few, cell, side, cmap=colours, vmin=lowest, vmax=limit)
    if cell.regions is not None:
        _draw_borders(axis, cell.regions)


def _show(axis: Any, few: NDArray[Any], cell: Cell, side: int, **colours: Any) -> None:
    # Text around the images makes their places smaller than a tile, but not half as large: larger
    # ones may have to shrink once more, which "nearest" does by leaving pixels out.
    is_enlarged = max(few.shape[:2]) <= side / 2
    if cell.regions is not None:  # whose borders count in pixels of the whole image
        height, width = cell.values.shape[:2]
        colours["extent"] = (-0.5, width - 0.5, height - 0.5, -0.5)
    axis.imshow(few, interpolation="nearest" if is_enlarged else "antialiased", **colours)


def _draw_borders(axis: Any, regions: NDArray[Any]) -> None:
    from matplotlib.collections import LineCollection

    lines = borders(regions)
    for colour, width in BORDER_COLOURS:
        axis.add_collection(LineCollection(lines, colors=colour, linewidths=width))


def borders(regions: NDArray[Any]) -> list[list[tuple[float, float]]]:
    """Lines between neighbouring pixels of different regions.

    Args:
        regions: (H, W) numbers of regions.

    Returns:
        Lines of two points (x, y) each, in pixels; the first pixel reaches from -0.5 to 0.5.

    Example:
        >>> borders(np.array([[0, 0], [1, 1]]))
        [[(-0.5, 0.5), (1.5, 0.5)]]
    """
    below = _runs(regions[:-1] != regions[1:])
    right = _runs((regions[:, :-1] != regions[:, 1:]).T)
    return [
        *([(start - 0.5, at + 0.5), (end - 0.5, at + 0.5)] for at, start, end in below),
        *([(at + 0.5, start - 0.5), (at + 0.5, end - 0.5)] for at, start, end in right),
    ]


def _runs(mask: NDArray[Any]) -> list[tuple[int, int, int]]:
    """Row, first place and end of each run of true values in the rows of a mask."""
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    return list(zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True))


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


def beside(name: str, style: Style) -> str:
    """A name as it stands left of what it names."""
    return fitting(name.replace("_", "_\n"), LONGEST_NAME, style) if style.is_small else name


def fitting(text: str, longest: int, style: Style) -> str:
    """Each line of a text, cut where it would run into its neighbour."""
    if not style.is_small:
        return text
    lines = text.splitlines()
    cut = [line if len(line) <= longest else line[: longest - 1] + "…" for line in lines]
    return "\n".join(cut)


def _size(rows: Sequence[Row], columns: int, title: str, style: Style) -> tuple[float, float]:
    if style.is_small:
        above = 5 * style.caption / 72 if title else 3 * style.caption / 72
        captions = sum(2.4 * style.caption / 72 for row in rows[1:] if row.captions)
        return 0.9 + style.tile * columns, style.tile * len(rows) + above + captions
    captions = sum(0.3 for row in rows[1:] if row.captions)
    return 1.9 + style.tile * columns, (style.tile + 0.05) * len(rows) + 0.5 + captions
