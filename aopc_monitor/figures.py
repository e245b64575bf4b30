"""Pictures from plain numbers.

Only this module knows matplotlib, and never pyplot's global state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Okabe and Ito's colours, which colour-blind people tell apart.
COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
CONTROL_COLOUR = "#7F7F7F"
ACCURACY_COLOUR = "#D55E00"


@dataclass(frozen=True)
class Line:
    """A measured quantity over training.

    Attributes:
        values: one number per evaluation.
        errors: standard error of each, drawn as a band; or None.
        is_control: whether it is what the others are compared with.
    """

    values: Sequence[float]
    errors: Sequence[float] | None = None
    is_control: bool = False


def training_progress(
    steps: Sequence[int], lines: Mapping[str, Line], accuracy: Sequence[float], title: str
) -> Any:
    """AOPC and accuracy over training steps on two axes, like Fig. 7 of Samek et al. 2017.

    Args:
        steps: optimizer steps of the evaluations; spaced by their logarithm, 0 included.
        lines: AOPC by name.
        accuracy: test accuracy at each step, from 0 to 1.
        title: what is shown, with its correlation.

    Returns:
        A matplotlib Figure: `figure.savefig(path)`.

    Example:
        >>> lines = {"lrp": Line([0.0, 0.2, 0.3])}
        >>> figure = training_progress([0, 10, 100], lines, [0.1, 0.5, 0.8], "Pearson 0.98")
        >>> len(figure.axes)
        2
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.6), dpi=110, layout="constrained")
    left = figure.add_subplot()
    right = left.twinx()
    colours = iter(COLOURS * len(lines))
    handles = []
    for name, line in lines.items():
        colour = CONTROL_COLOUR if line.is_control else next(colours)
        style = "--" if line.is_control else "-"
        values = np.asarray(line.values)
        handles += left.plot(steps, values, style, color=colour, marker="o", ms=3, label=name)
        if line.errors is not None:
            errors = np.asarray(line.errors)
            left.fill_between(
                steps, values - errors, values + errors, color=colour, alpha=0.2, lw=0
            )
    handles += right.plot(
        steps, accuracy, color=ACCURACY_COLOUR, marker="s", ms=3, lw=2, label="test accuracy"
    )
    first = min((step for step in steps if step > 0), default=1)
    left.set_xscale("symlog", linthresh=first, linscale=0.3)
    left.set_xlim(0, max(steps))
    left.set_xlabel("training step")
    left.set_ylabel("AOPC (drop of probability, ± 1 SEM)")
    right.set_ylabel("test accuracy", color=ACCURACY_COLOUR)
    right.set_ylim(0, 1)
    right.tick_params(axis="y", colors=ACCURACY_COLOUR)
    left.grid(alpha=0.25)
    left.set_title(title, fontsize=10)
    left.legend(handles=handles, loc="upper left", fontsize=8, framealpha=0.9)
    return figure


def heatmap_gallery(
    images: NDArray[Any], maps: Mapping[str, NDArray[Any]], titles: Sequence[str]
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
    figure = Figure(figsize=(1.9 + 0.95 * columns, 1.0 * rows + 0.5), dpi=110, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, image, title in zip(axes[0], images, titles, strict=True):
        axis.imshow(image)
        axis.set_title(title, fontsize=8)
    for row, (name, heatmaps) in zip(axes[1:], maps.items(), strict=True):
        is_signed = bool((heatmaps < 0).any())
        for axis, heatmap in zip(row, heatmaps, strict=True):
            limit = max(float(np.percentile(np.abs(heatmap), 99.5)), 1e-30)
            lowest = -limit if is_signed else 0.0
            colours = "bwr" if is_signed else "Reds"
            axis.imshow(heatmap, cmap=colours, vmin=lowest, vmax=limit, interpolation="nearest")
        row[0].set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    return figure
