"""Pictures of `label_free_limits`: where the curves part, and all rank correlations at a glance."""

from __future__ import annotations

import math
import textwrap
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aopc_monitor import figures
from recipes.label_free_limits.study import CORRUPTED, TITLES, LimitsRun, LimitsStudy
from recipes.shared.data.corruptions import CORRUPTIONS, SEVERITIES
from recipes.shared.training.beside import ACCURACY
from recipes.shared.training.fitting import FIRST_STEP

# On the axis of corruptions: one place for each severity and a gap after each corruption.
_PLACES = len(SEVERITIES) + 1


def figure_of_regimes(study: LimitsStudy) -> Any:
    """A panel per regime: accuracy, confidence, AOPC, and AOPC on validation minus training images.

    One line per seed. A dot marks the best accuracy.

    Args:
        study: what was found.

    Returns:
        A matplotlib Figure.
    """
    regimes = study.of_regime()
    columns = min(len(regimes), 2)
    rows = -(-len(regimes) // columns)
    # A single panel still has to hold the legend.
    size = (max(5.2 * columns, 8), 3.4 * rows + 1.1)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axis, (regime, runs) in zip(axes.flat, regimes.items(), strict=False):
        for run in runs:
            _draw(axis, run, study)
        _lay_out(axis, regime)
    for axis in axes.flat[len(regimes) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy, probability,\nor drop of probability")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    first = dict(zip(labels, handles, strict=True))
    figure.legend(first.values(), first.keys(), loc="outside lower center", ncols=2, fontsize=9)
    figure.suptitle(f"{study.title}: one line per seed, dots at the best accuracy", fontsize=11)
    return figure


def _draw(axis: Any, run: LimitsRun, study: LimitsStudy) -> None:
    name = study.heatmaps[0]
    accuracy = run.column(ACCURACY)
    shown = {
        "accuracy, all test images": (accuracy, figures.ACCURACY_COLOUR, "-"),
        "confidence, all test images": (run.column("rivals/confidence"), figures.COLOURS[3], "--"),
        f"AOPC of {name}, validation images": (
            run.column(f"aopc/validation/{name}"), figures.COLOURS[0], "-",
        ),
        f"AOPC of {name} / f(x), validation - training images": (
            _named(run, study, f"{name}_relative_difference"), figures.COLOURS[2], "-.",
        ),
    }  # fmt: skip
    for label, (values, colour, style) in shown.items():
        places, heights = _curve(run, values)
        axis.plot(
            places, heights, style, color=colour, lw=1.4, alpha=0.85, label=label,
            marker="." if run.regime == CORRUPTED else None,
        )  # fmt: skip
    if run.regime != CORRUPTED:
        peak = int(np.argmax(accuracy))
        axis.plot(run.column("step")[peak], accuracy[peak], "o", color=figures.ACCURACY_COLOUR)


def _named(run: LimitsRun, study: LimitsStudy, name: str) -> list[float]:
    return run.values(next(signal for signal in study.signals if signal.name == name))


def _curve(run: LimitsRun, values: list[float]) -> tuple[list[float], list[float]]:
    """The places and heights of the values; no line joins one corruption and the next."""
    if run.regime != CORRUPTED:
        return run.column("step"), values
    places: list[float] = []
    heights: list[float] = []
    for point, value in zip(run.points, values, strict=True):
        kind, severity = int(point["corruption"]), int(point["severity"])
        place = _PLACES * (kind - 1) + severity + 1 if kind else 0
        if places and place != places[-1] + 1:
            places.append(places[-1] + 1)
            heights.append(math.nan)
        places.append(place)
        heights.append(value)
    return places, heights


def _lay_out(axis: Any, regime: str) -> None:
    axis.set_title(textwrap.fill(TITLES[regime], 60), fontsize=10)
    axis.axhline(0, color="0.8", lw=0.8, zorder=0)
    axis.grid(alpha=0.25)
    if regime == CORRUPTED:
        middle = (len(SEVERITIES) + 1) / 2 + 1
        axis.set_xticks(
            [0, *(_PLACES * k + middle for k in range(len(CORRUPTIONS)))], ["clean", *CORRUPTIONS]
        )
        axis.set_xlabel("corruption, each with its severity from 1 to 5")
    else:
        axis.set_xscale("symlog", linthresh=FIRST_STEP)
        axis.set_xlim(left=0)
        axis.set_xlabel("optimizer step (0, then logarithmic)")


def figure_of_correlations(study: LimitsStudy) -> Any:
    """A table of colours: Spearman's rank correlation of each signal in each regime.

    Args:
        study: what was found.

    Returns:
        A matplotlib Figure.
    """
    columns = [(regime, "spearman") for regime in study.of_regime()]
    columns += [(regime, "late_spearman") for regime, _ in columns if regime != CORRUPTED]
    values = np.array(
        [
            # One seed without a value leaves none, so that all cells are means over all seeds.
            [fmean(vars(a)[field] for a in study.agreements(r, signal)) for r, field in columns]
            for signal in study.signals
        ]
    )
    names = [
        f"{regime}\n{'whole' if field == 'spearman' else 'after the peak'}".replace("_", " ")
        for regime, field in columns
    ]
    size = (3.4 + 1.05 * len(columns), 1.6 + 0.24 * len(study.signals))
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axis = figure.add_subplot()
    shown = axis.imshow(values, cmap="PuOr_r", vmin=-1, vmax=1, aspect="auto")
    axis.set_xticks(range(len(columns)), names, fontsize=8)
    axis.set_yticks(range(len(study.signals)), [s.name for s in study.signals], fontsize=8)
    axis.xaxis.tick_top()
    for (row, column), value in np.ndenumerate(values):
        text, colour = (f"{value:.2f}", "white" if abs(value) > 0.7 else "black")
        if math.isfinite(value):
            axis.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(shown, label="rank correlation with test accuracy, mean over seeds", shrink=0.6)
    figure.suptitle(
        f"{study.title}:\nwhich signals follow accuracy (empty: no value in at least one seed)",
        fontsize=10,
    )
    return figure
