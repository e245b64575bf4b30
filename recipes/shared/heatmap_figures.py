"""Pictures of the studies of heatmaps, from plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from aopc_monitor.figures import CONTROL_COLOUR, Line
from recipes.shared.heatmap_study import OF_THE_PAPER, family

# Okabe and Ito's colours, blues and greens for LRP; black and plum are added where they run out.
_COLOURS = {
    "lrp": ("#0072B2", "#56B4E9", "#009E73", "#000000"),
    "deconvolution": ("#D55E00", "#E69F00"),
    "sensitivity": ("#CC79A7", "#7A3B69"),
    "random": (CONTROL_COLOUR,),
    None: ("#009E73", "#D55E00", "#0072B2", "#CC79A7", "#E69F00", "#56B4E9"),
}
_STROKES = {"lrp": "-", "deconvolution": "--", "sensitivity": ":", "random": "-", None: "-."}
_MARKERS = "os^Dv<>PX*"


def styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, stroke and marker of each heatmap: strokes tell the families apart.

    Example:
        >>> styles(["lrp", "sensitivity_l2"])["lrp"]
        {'color': '#0072B2', 'linestyle': '-', 'marker': 'o'}
    """
    numbers: dict[str | None, count[int]] = {}
    found = {}
    # Heatmaps of the paper look the same in every study, whichever are left out.
    for name in dict.fromkeys([*OF_THE_PAPER, *sorted(names)]):
        of_family = family(name)
        number = next(numbers.setdefault(of_family, count()))
        colours = _COLOURS[of_family]
        found[name] = {
            "color": colours[number % len(colours)],
            "linestyle": _STROKES[of_family],
            "marker": _MARKERS[number % len(_MARKERS)],
        }
    return {name: found[name] for name in names}


def lines_over_steps(panels: Mapping[str, Mapping[str, Line]], relative_to: str, title: str) -> Any:
    """AOPC relative to another order as a function of the perturbation step.

    Like Fig. 4 and 8 of Samek et al. 2017, with a band of one standard error to either side.

    Args:
        panels: lines by name, one value for each step from 1, by the panels' titles.
        relative_to: what the difference is taken from.
        title: of all.

    Returns:
        A matplotlib Figure: `figure.savefig(path)`.

    Example:
        >>> panels = {"9 x 9": {"lrp": Line([0.0, 0.1], [0.0, 0.01])}}
        >>> len(lines_over_steps(panels, "random order", "digits").axes)
        1
    """
    from matplotlib.figure import Figure

    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(2.6 + 4.2 * columns, 0.6 + 3.6 * rows), dpi=110, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    style = styles(list(next(iter(panels.values()))))
    for axis, (heading, lines) in zip(axes, panels.items(), strict=False):
        _draw(axis, lines, style)
        axis.set_title(heading, fontsize=10)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", fontsize=8, handlelength=4)
    figure.supxlabel("perturbation step", fontsize=10)
    figure.supylabel(f"AOPC minus that of {relative_to}\n(probability, ± 1 SEM)", fontsize=10)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw(axis: Any, lines: Mapping[str, Line], style: Mapping[str, Mapping[str, Any]]) -> None:
    axis.axhline(0, color=CONTROL_COLOUR, lw=1)
    for number, (name, line) in enumerate(lines.items()):
        values = np.asarray(line.values)
        steps = np.arange(1, len(values) + 1)
        spacing = max(1, len(values) // 8)
        # Markers of different lines stand at different steps, so that they do not hide each other.
        every = (number % spacing, spacing)
        axis.plot(steps, values, lw=1.6, ms=4, markevery=every, label=name, **style[name])
        if line.errors is not None:
            errors = np.asarray(line.errors)
            colour = style[name]["color"]
            axis.fill_between(
                steps, values - errors, values + errors, color=colour, alpha=0.15, lw=0
            )
    axis.set_xlim(1, len(values))
    axis.grid(alpha=0.25)


def complexity(
    values: Mapping[str, Mapping[str, Sequence[float]]], labels: Mapping[str, str], title: str
) -> Any:
    """Complexity of the heatmaps of many images, like Fig. 5 of Samek et al. 2017.

    Args:
        values: by heatmap and measure, one per image.
        labels: of each measure what it is, with its unit. The first and the last are shown against
            each other, with the mean of each heatmap as a large mark.
        title: of all.

    Returns:
        A matplotlib Figure: `figure.savefig(path)`.

    Example:
        >>> values = {"lrp": {"png": [900, 950], "entropy": [5.1, 5.4]}}
        >>> len(complexity(values, {"png": "bytes", "entropy": "bits"}, "digits").axes)
        3
    """
    from matplotlib.figure import Figure

    first, *_, last = labels
    names = sorted(values, key=lambda name: float(np.mean(values[name][first])))
    panels = 1 + len(labels)
    rows = -(-panels // 2)
    figure = Figure(figsize=(11, 0.6 + 4.2 * rows), dpi=110, layout="constrained")
    axes = list(figure.subplots(rows, 2, squeeze=False).flat)
    style = styles(names)
    _draw_scatter(
        axes[0], {name: (values[name][first], values[name][last]) for name in names}, style
    )
    axes[0].set_xlabel(labels[first])
    axes[0].set_ylabel(labels[last])
    for axis, measure in zip(axes[1:], labels, strict=False):
        _draw_boxes(axis, {name: values[name][measure] for name in names}, style)
        axis.set_ylabel(labels[measure])
    for axis in axes[panels:]:
        axis.remove()
    figure.suptitle(title, fontsize=11)
    return figure


def _draw_scatter(
    axis: Any,
    points: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    style: Mapping[str, Mapping[str, Any]],
) -> None:
    for name, (across, up) in points.items():
        look = {"color": style[name]["color"], "marker": style[name]["marker"]}
        axis.scatter(across, up, s=5, alpha=0.2, lw=0, **look)
    for name, (across, up) in points.items():  # above all points
        look = {"color": style[name]["color"], "marker": style[name]["marker"]}
        axis.scatter(
            np.mean(across), np.mean(up), s=90, edgecolor="white", lw=1.2, label=name, zorder=3,
            **look,
        )  # fmt: skip
    axis.legend(fontsize=8, loc="lower right", title="mean of", title_fontsize=8)
    axis.grid(alpha=0.25)


def _draw_boxes(
    axis: Any, columns: Mapping[str, Sequence[float]], style: Mapping[str, Mapping[str, Any]]
) -> None:
    boxes = axis.boxplot(
        list(columns.values()), widths=0.6, patch_artist=True,
        flierprops={"marker": ".", "ms": 2, "alpha": 0.4}, medianprops={"color": "black"},
    )  # fmt: skip
    for box, name in zip(boxes["boxes"], columns, strict=True):
        box.set(facecolor=style[name]["color"], alpha=0.7)
    places = range(1, len(columns) + 1)
    axis.set_xticks(places, list(columns), fontsize=8, rotation=35, ha="right")
    axis.grid(axis="y", alpha=0.25)
