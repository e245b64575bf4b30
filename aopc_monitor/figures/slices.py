"""Slices of volumes and frames of videos, above their heatmaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aopc_monitor.figures.picture_grid import Cell, Row, picture_grid
from aopc_monitor.figures.rendering import own_settings
from aopc_monitor.figures.scales import has_signs, limit_of, strengths
from aopc_monitor.figures.style import PAGE, Style

MOST_FRAMES = 6
# The dimensions of a volume: depth, height, width.
LETTERS = "DHW"


class _Cut(NamedTuple):
    """A plane through one of the volumes."""

    volume: int
    axis: int
    place: int

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        return np.take(values[self.volume], self.place, self.axis)


@own_settings()
def slice_gallery(
    volumes: NDArray[Any],
    maps: Mapping[str, NDArray[Any]],
    titles: Sequence[str],
    title: str = "",
    style: Style = PAGE,
    *,
    regions: NDArray[Any] | None = None,
) -> Any:
    """Three slices through each volume, above the same slices of its heatmaps.

    They go through the place where the heatmaps together have most relevance: across the depth
    (D), the height (H) and the width (W), with their number above, counted from 1. Colours are
    those of `heatmap_gallery`, on one scale for a volume.

    Args:
        volumes: (N, D, H, W, 3) from 0 to 1.
        maps: (N, D, H, W) by name.
        titles: N short texts, such as the explained class.
        title: text above all.
        style: sizes.
        regions: (N, D, H, W) numbers of regions whose borders are drawn.

    Returns:
        A matplotlib Figure: `figure.savefig(path)`.

    Example:
        >>> volumes = np.random.default_rng(0).random((1, 4, 8, 8, 3))
        >>> figure = slice_gallery(volumes, {"lrp": volumes.mean(axis=4) - 0.5}, ["healthy"])
        >>> len(figure.axes)
        6
    """
    cuts, captions = [], []
    for i, above in enumerate(titles):
        place = most_relevant_place([heatmaps[i] for heatmaps in maps.values()])
        cuts += [_Cut(i, axis, at) for axis, at in enumerate(place)]
        numbers = [f"{letter} {at + 1}" for letter, at in zip(LETTERS, place, strict=True)]
        captions += [f"{above}\n{numbers[0]}" if above else numbers[0], *numbers[1:]]
    rows = _rows_of(cuts, volumes, maps, regions, "", captions)
    return picture_grid(rows, title, style)


@own_settings()
def film_strip(
    videos: NDArray[Any],
    maps: Mapping[str, NDArray[Any]],
    titles: Sequence[str],
    title: str = "",
    style: Style = PAGE,
    *,
    regions: NDArray[Any] | None = None,
) -> Any:
    """Up to six frames of each video side by side, above the same frames of its heatmaps.

    A video is cut into as many parts of equal length as there are frames; of each part the frame
    with most relevance is shown, with its number above, counted from 1. Colours are those of
    `heatmap_gallery`, on one scale for a video.

    Args:
        videos: (N, D, H, W, 3) from 0 to 1, of D frames each.
        maps: (N, D, H, W) by name.
        titles: N short texts beside the frames, such as the explained class.
        title: text above all.
        style: sizes.
        regions: (N, D, H, W) numbers of regions whose borders are drawn.

    Returns:
        A matplotlib Figure: `figure.savefig(path)`.

    Example:
        >>> videos = np.random.default_rng(0).random((2, 16, 8, 8, 3))
        >>> figure = film_strip(videos, {"lrp": videos.mean(axis=4) - 0.5}, ["run", "jump"])
        >>> len(figure.axes)
        24
    """
    rows = []
    for i, name in enumerate(titles):
        frames = most_relevant_frames([heatmaps[i] for heatmaps in maps.values()])
        cuts = [_Cut(i, 0, frame) for frame in frames]
        captions = [str(frame + 1) for frame in frames]
        rows += _rows_of(cuts, videos, maps, regions, name, captions)
    return picture_grid(rows, title, style)


def _rows_of(
    cuts: Sequence[_Cut],
    inputs: NDArray[Any],
    maps: Mapping[str, NDArray[Any]],
    regions: NDArray[Any] | None,
    name: str,
    captions: Sequence[str],
) -> list[Row]:
    """The planes of the inputs, and below them those of each method."""
    borders = [None if regions is None else cut.of(regions) for cut in cuts]
    pairs = list(zip(cuts, borders, strict=True))
    rows = [Row(name, [Cell(cut.of(inputs), regions=r) for cut, r in pairs], captions)]
    for method, heatmaps in maps.items():
        is_signed, limits = has_signs(heatmaps), [limit_of(heatmap) for heatmap in heatmaps]
        cells = [Cell(cut.of(heatmaps), is_signed, limits[cut.volume], r) for cut, r in pairs]
        rows.append(Row(method, cells))
    return rows


def most_relevant_place(heatmaps: Sequence[NDArray[Any]]) -> tuple[int, ...]:
    """Along each dimension the place that has most relevance of either sign.

    Args:
        heatmaps: of one input, of one shape; each counts as much as any other.

    Example:
        >>> heatmap = np.zeros((4, 5, 6))
        >>> heatmap[1, 2, 3] = -1.0
        >>> most_relevant_place([heatmap])
        (1, 2, 3)
    """
    total = _magnitude(heatmaps)
    others = [tuple(a for a in range(total.ndim) if a != axis) for axis in range(total.ndim)]
    return tuple(int(total.sum(axis=rest).argmax()) for rest in others)


def most_relevant_frames(heatmaps: Sequence[NDArray[Any]], most: int = MOST_FRAMES) -> list[int]:
    """In each of so many parts of a video the frame that has most relevance of either sign.

    Args:
        heatmaps: (D, H, W) of one video; each counts as much as any other.
        most: how many parts; fewer where there are not so many frames.

    Example:
        >>> heatmap = np.zeros((4, 2, 2))
        >>> heatmap[1] = 1.0
        >>> most_relevant_frames([heatmap], most=2)
        [1, 2]
    """
    of_frames = _magnitude(heatmaps).sum(axis=(1, 2))
    parts = np.array_split(np.arange(len(of_frames)), min(most, len(of_frames)))
    return [int(part[of_frames[part].argmax()]) for part in parts]


def _magnitude(heatmaps: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    return np.sum([np.abs(strengths(heatmap)) for heatmap in heatmaps], axis=0)
