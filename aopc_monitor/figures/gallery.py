"""Images and their heatmaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from aopc_monitor.figures.picture_grid import Cell, Row, picture_grid
from aopc_monitor.figures.rendering import own_settings
from aopc_monitor.figures.scales import has_signs
from aopc_monitor.figures.style import PAGE, Style


@own_settings()
def heatmap_gallery(
    images: NDArray[Any],
    maps: Mapping[str, NDArray[Any]],
    titles: Sequence[str],
    title: str = "",
    style: Style = PAGE,
    *,
    regions: NDArray[Any] | None = None,
    across: bool = False,
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
        regions: (N, H, W) numbers of regions, such as superpixels, whose borders are drawn.
        across: whether each image stands left of its heatmaps, for few images; its title is left of
            it then.

    Returns:
        A matplotlib Figure: `figure.savefig(path)`.

    Example:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).random((2, 8, 8, 3))
        >>> figure = heatmap_gallery(images, {"lrp": images.mean(axis=3) - 0.5}, ["cat", "dog"])
        >>> len(figure.axes)
        4
    """
    of_each = [None] * len(images) if regions is None else list(regions)
    rows = [Row("", [Cell(i, regions=r) for i, r in zip(images, of_each, strict=True)], titles)]
    for name, heatmaps in maps.items():
        is_signed, pairs = has_signs(heatmaps), zip(heatmaps, of_each, strict=True)
        rows.append(Row(name, [Cell(m, is_signed, regions=r) for m, r in pairs]))
    return picture_grid(_turned(rows, titles) if across else rows, title, style)


def _turned(rows: Sequence[Row], titles: Sequence[str]) -> list[Row]:
    """Each column as a row: the names of the rows stand above the first."""
    columns = zip(*(row.cells for row in rows), strict=True)
    turned = [Row(name, cells) for name, cells in zip(titles, columns, strict=True)]
    return [replace(turned[0], captions=[row.name for row in rows]), *turned[1:]]
