"""Which picture a kind of input has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aopc_monitor.figures.bars import bar_gallery
from aopc_monitor.figures.coloured_lines import series_gallery
from aopc_monitor.figures.coloured_words import text_gallery
from aopc_monitor.figures.gallery import heatmap_gallery
from aopc_monitor.figures.slices import film_strip, slice_gallery
from aopc_monitor.figures.style import PAGE, Style

GALLERIES: dict[str, Callable[..., Any]] = {
    "images": heatmap_gallery,
    "series": series_gallery,
    "volumes": slice_gallery,
    "videos": film_strip,
    "tables": bar_gallery,
    "texts": text_gallery,
}


def gallery_of(
    kind: str,
    inputs: Any,
    maps: Mapping[str, Any],
    titles: Sequence[str],
    title: str = "",
    style: Style = PAGE,
    **more: Any,
) -> Any:
    """Inputs of a kind with their heatmaps, by the function of its row in `GALLERIES`.

    Args:
        kind: "images", "series", "volumes", "videos", "tables" or "texts".
        inputs: as that function takes them, and so are the others.
        maps: the heatmaps by name.
        titles: N short texts, such as the explained class.
        title: text above all.
        style: sizes.
        **more: what that function alone takes, such as `regions`.

    Returns:
        A matplotlib Figure: `figure.savefig(path)`.

    Raises:
        ValueError: for a kind that has no picture.

    Example:
        >>> import numpy as np
        >>> series = np.random.default_rng(0).random((2, 3, 100))
        >>> figure = gallery_of("series", series, {"lrp": series[:, 0] - 0.5}, ["run", "walk"])
        >>> len(figure.axes)
        2
    """
    if kind not in GALLERIES:
        raise ValueError(f"kind={kind!r} has no picture: choose one of {', '.join(GALLERIES)}")
    return GALLERIES[kind](inputs, maps, titles, title, style, **more)
