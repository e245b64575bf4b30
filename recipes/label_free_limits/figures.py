"""Pictures of `label_free_limits`: where the curves part, and all rank correlations at a glance."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aopc_monitor import figures
from recipes.label_free_limits.plan import CORRUPTION_SETS, Group
from recipes.label_free_limits.study import LimitsRun, LimitsStudy
from recipes.shared.training.beside import ACCURACY
from recipes.shared.training.fitting import FIRST_STEP

MOST_PANELS = 4


def figure_of_groups(study: LimitsStudy, most: int = MOST_PANELS) -> Any:
    """A panel for each group: accuracy, agreement with the reference, confidence, AOPC.

    One line per seed. A dot marks the best accuracy.

    Args:
        study: what was found.
        most: groups that are shown, the first ones.

    Returns:
        A matplotlib Figure.
    """
    groups = list(study.runs)[:most]
    columns = min(len(groups), 2)
    rows = -(-len(groups) // columns)
    # A single panel still has to hold the legend.
    size = (max(5.2 * columns, 8), 3.4 * rows + 1.1)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axis, group in zip(axes.flat, groups, strict=False):
        for run in study.runs[group]:
            _draw(axis, group, run, study)
        _lay_out(axis, group, study.runs[group])
    for axis in axes.flat[len(groups) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy, agreement (kappa),\nprobability, or drop of probability")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    first = dict(zip(labels, handles, strict=True))
    figure.legend(first.values(), first.keys(), loc="outside lower center", ncols=2, fontsize=9)
    figure.suptitle(f"{study.title}: one line per seed, dots at the best accuracy", fontsize=11)
    return figure


def _draw(axis: Any, group: Group, run: LimitsRun, study: LimitsStudy) -> None:
    names = {signal.name for signal in study.signals}
    shown = {
        ACCURACY: ("accuracy (labels of the test images)", figures.ACCURACY_COLOUR, "-"),
        "ref_kappa": ("agreement with the fixed reference", figures.COLOURS[2], "-"),
        "confidence": ("confidence", figures.COLOURS[3], "--"),
        "lrp": ("AOPC of LRP", figures.COLOURS[0], "-."),
    }
    for key, (label, colour, style) in shown.items():
        if key == ACCURACY or key in names:
            places, heights = _curve(group, run, run.column(key))
            axis.plot(
                places, heights, style, color=colour, lw=1.4, alpha=0.8, label=label,
                marker=None if group.is_training else ".",
            )  # fmt: skip
    if group.is_training:
        accuracy = run.column(ACCURACY)
        peak = int(np.argmax(accuracy))
        axis.plot(run.column("step")[peak], accuracy[peak], "o", color=figures.ACCURACY_COLOUR)


def _curve(
    group: Group, run: LimitsRun, values: Sequence[float]
) -> tuple[list[float], list[float]]:
    """The places and heights of the values; no line joins one corruption and the next."""
    if group.is_training:
        return run.column("step"), list(values)
    places: list[float] = []
    heights: list[float] = []
    before = None
    for point, value in zip(run.points, values, strict=True):
        if before not in (None, point["corruption"]):
            places.append(places[-1] + 1)
            heights.append(math.nan)
        places.append(places[-1] + 1 if places else 0)
        heights.append(value)
        before = point["corruption"]
    return places, heights


def _lay_out(axis: Any, group: Group, runs: Sequence[LimitsRun]) -> None:
    axis.set_title(textwrap.fill(group.title, 60), fontsize=10)
    axis.axhline(0, color="0.8", lw=0.8, zorder=0)
    axis.grid(alpha=0.25)
    if group.is_training:
        axis.set_xscale("symlog", linthresh=FIRST_STEP)
        axis.set_xlim(left=0)
        axis.set_xlabel("optimizer step (0, then logarithmic)")
        return
    names = CORRUPTION_SETS[group.regime]
    # One place for the clean images and a gap, then as many for each corruption and a gap.
    width = (len(runs[0].points) - 1) // len(names) + 1
    middles = [2 + width * k + (width - 2) / 2 for k in range(len(names))]
    axis.set_xticks([0, *middles], ["clean", *names], fontsize=8)
    axis.set_xlabel("corruption, each from its mildest to its severest")


def figure_of_correlations(study: LimitsStudy) -> Any:
    """A table of colours: Spearman's rank correlation of each signal in each group.

    Args:
        study: what was found.

    Returns:
        A matplotlib Figure.
    """
    columns = [(group, "spearman") for group in study.runs]
    columns += [(group, "late_spearman") for group in study.runs if group.is_training]
    values = np.array(
        [
            # One seed without a value leaves none, so that all cells are means over all seeds.
            [fmean(study.values(group, signal.name, field)) for group, field in columns]
            for signal in study.signals
        ]
    )
    names = [
        f"{group.name}{'' if field == 'spearman' else ' after the peak'}"
        for group, field in columns
    ]
    size = (3.4 + 0.62 * len(columns), 3.2 + 0.26 * len(study.signals))
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axis = figure.add_subplot()
    shown = axis.imshow(values, cmap="PuOr_r", vmin=-1, vmax=1, aspect="auto")
    axis.set_xticks(range(len(columns)), names, fontsize=8, rotation=60, ha="left")
    axis.set_yticks(range(len(study.signals)), [s.name for s in study.signals], fontsize=8)
    axis.xaxis.tick_top()
    for (row, column), value in np.ndenumerate(values):
        text, colour = (f"{value:.2f}", "white" if abs(value) > 0.7 else "black")
        if math.isfinite(value):
            axis.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(shown, label="rank correlation with test accuracy, mean over seeds", shrink=0.6)
    figure.suptitle(
        f"{study.title}:\nwhich signals follow accuracy (empty: no value in at least one seed)",
        fontsize=10,
    )
    return figure
