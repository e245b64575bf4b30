"""The picture of a comparison of scores: heatmaps by scores, and how the scores agree."""

from __future__ import annotations

from typing import Any

import torch

from recipes.compare_scores.agreement import Measured
from recipes.compare_scores.scores import CONTROL, SCORES

ARROWS = {True: "\N{UPWARDS ARROW}", False: "\N{DOWNWARDS ARROW}"}
# Of a picture of this height in inches a row of a heatmap, and one of a score.
_ROW, _CELL = 0.42, 0.52


def scores_picture(measured: Measured, title: str) -> Any:
    """Two panels: the mean of each score of each heatmap, and rank correlations of the scores.

    Args:
        measured: what was found.
        title: of both.

    Returns:
        A matplotlib Figure: `figure.savefig(path)`.
    """
    from matplotlib.figure import Figure

    rows, columns = len(measured.heatmaps), len(SCORES)
    heights = [1.3 + _ROW * rows, 1.3 + _CELL * columns]
    figure = Figure(figsize=(11.5, sum(heights) + 0.5), dpi=110, layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=heights)
    _draw_means(above, measured)
    image = _draw_agreement(below, measured.without_control)
    bar = figure.colorbar(image, ax=below, shrink=0.7, pad=0.02)
    bar.set_label("Spearman rank correlation", fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw_means(axis: Any, measured: Measured) -> None:
    """Colours tell the place among the heatmaps, numbers the mean."""
    names, count = measured.by_place, len(measured.heatmaps)
    rows = [measured.heatmaps.index(name) for name in names]
    places = measured.ranks[rows]
    axis.imshow(places.numpy(), cmap="viridis_r", aspect="auto", vmin=1, vmax=count)
    for row, name in enumerate(names):
        for column, score in enumerate(SCORES):
            place = float(places[row, column])
            colour = "black" if place < 0.6 * count else "white"
            text = number_text(measured.estimate(name, score).mean)
            weight = "bold" if place == 1 else "normal"
            axis.text(
                column, row, text, ha="center", va="center", fontsize=8, color=colour, weight=weight
            )
    axis.set_yticks(range(count), names, fontsize=9)
    for label in axis.get_yticklabels():
        label.set_style("italic" if label.get_text() == CONTROL else "normal")
    labels = [f"{name} {ARROWS[score.higher_is_better]}" for name, score in SCORES.items()]
    axis.set_xticks(range(len(SCORES)), labels, fontsize=8.5, rotation=35, ha="left")
    axis.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axis.set_title(
        "Mean over images; yellow is the best place among the heatmaps, whichever way is better",
        fontsize=9.5,
    )


def _draw_agreement(axis: Any, measured: Measured) -> Any:
    """Above the diagonal of the means over images, below it within images."""
    upper = torch.triu(torch.ones_like(measured.of_means), 1).bool()
    matrix = torch.where(upper, measured.of_means, measured.within_images)
    matrix.fill_diagonal_(float("nan"))
    image = axis.imshow(matrix.numpy(), cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    for row in range(len(matrix)):
        for column in range(len(matrix)):
            value = float(matrix[row, column])
            if value == value:
                colour = "white" if abs(value) > 0.65 else "black"
                axis.text(
                    column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour
                )
    axis.set_xticks(range(len(SCORES)), list(SCORES), fontsize=8.5, rotation=35, ha="right")
    axis.set_yticks(range(len(SCORES)), list(SCORES), fontsize=8.5)
    axis.tick_params(length=0)
    axis.set_title(
        "Agreement of two scores on the order of the heatmaps, random one left out: above the "
        "diagonal by means, below within an image",
        fontsize=9.5,
    )
    return image


def number_text(value: float) -> str:
    """A number in three digits or so.

    Example:
        >>> number_text(0.34949), number_text(23456.0), number_text(-0.06)
        ('0.349', '23456', '-0.060')
    """
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3f}"
