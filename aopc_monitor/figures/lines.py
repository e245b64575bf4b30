"""Lines over training, and perturbation curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from statistics import median
from typing import Any

import numpy as np

from aopc_monitor.figures.rendering import own_settings
from aopc_monitor.figures.style import (
    ACCURACY_COLOUR,
    AGREEMENT_COLOUR,
    COLOURS,
    CONTROL_COLOUR,
    PAGE,
    Style,
)

AGREEMENT = "agreement"


@dataclass(frozen=True)
class Line:
    """A measured quantity over training, or over the steps of a perturbation.

    Attributes:
        values: one number per evaluation or step; NaN where there is none.
        errors: standard error of each, drawn as a band; or None.
        is_control: whether it is what the others are compared with.
    """

    values: Sequence[float]
    errors: Sequence[float] | None = None
    is_control: bool = False


@own_settings()
def training_progress(
    steps: Sequence[int],
    lines: Mapping[str, Line],
    accuracy: Sequence[float] | None,
    title: str,
    left_name: str = "AOPC (drop of probability, ± 1 SEM)",
    right_name: str = "test accuracy",
    style: Style = PAGE,
    agreement: Line | None = None,
) -> Any:
    """AOPC and accuracy over training steps on two axes, like Fig. 7 of Samek et al. 2017.

    Args:
        steps: optimizer steps of the evaluations; spaced by their logarithm, 0 included, where most
            of them lie early in the training.
        lines: AOPC by name.
        accuracy: test accuracy at each step, from 0 to 1; None for a single axis, without it.
        title: what is shown, with its correlation.
        left_name: what the lines are.
        right_name: what `accuracy` is, if not that.
        style: sizes.
        agreement: agreement with a reference at each step, beside the accuracy; its maximum is
            marked.

    Returns:
        A matplotlib Figure: `figure.savefig(path)`.

    Example:
        >>> lines = {"lrp": Line([0.0, 0.2, 0.3])}
        >>> figure = training_progress([0, 10, 100], lines, [0.1, 0.5, 0.8], "Pearson 0.98")
        >>> len(figure.axes)
        2
    """
    from matplotlib.figure import Figure

    size = (style.width, style.height)
    figure = Figure(figsize=size, dpi=style.dots_per_inch, layout="constrained")
    left = figure.add_subplot()
    handles = _draw_lines(left, steps, lines, style)
    right_lines = {} if accuracy is None else {right_name: Line(accuracy)}
    right_lines |= {} if agreement is None else {AGREEMENT: agreement}
    if right_lines:
        handles += _draw_right(left.twinx(), steps, right_lines, style)
    _space(left, steps)
    left.set_xlabel("training step", fontsize=style.label)
    left.set_ylabel(left_name, fontsize=style.label, parse_math=False)
    for axis in figure.axes:
        axis.tick_params(labelsize=style.legend if style.is_small else style.label)
    left.grid(alpha=0.25)
    left.set_title(title, fontsize=style.label, parse_math=False)
    if style.is_small:
        _legend_below(figure, handles, style)
    else:
        legend = left.legend(
            handles=handles, loc="upper left", fontsize=style.legend, framealpha=0.9
        )
        _take_literally(legend)
    return figure


def _draw_right(
    axis: Any, steps: Sequence[int], lines: Mapping[str, Line], style: Style
) -> list[Any]:
    """Accuracy, agreement or both, which are 1 at most."""
    handles, colour = [], ACCURACY_COLOUR
    for name, line in lines.items():
        colour, marker = (ACCURACY_COLOUR, "s") if name != AGREEMENT else (AGREEMENT_COLOUR, "D")
        handles += _draw_line(axis, steps, line, colour, name, style, marker=marker, linestyle="-")
        if name == AGREEMENT:
            handles += _draw_maximum(axis, steps, line, style)
    if len(lines) > 1:
        colour = "black"
    axis.set_ylabel(" and ".join(lines), color=colour, fontsize=style.label, parse_math=False)
    # Agreement is below 0 where it is less than by chance.
    known = [value for line in lines.values() for value in line.values if isfinite(value)]
    axis.set_ylim(min([0.0, *(1.1 * value for value in known)]), 1)
    axis.tick_params(axis="y", colors=colour)
    return handles


def _draw_maximum(axis: Any, steps: Sequence[int], line: Line, style: Style) -> list[Any]:
    known = [place for place, value in enumerate(line.values) if isfinite(value)]
    if not known:
        return []
    best = max(known, key=lambda place: line.values[place])
    handles: Iterable[Any] = axis.plot(
        steps[best],
        line.values[best],
        color=AGREEMENT_COLOUR,
        marker="*",
        ms=4 * style.marker,
        linestyle="",
        label=f"most at step {steps[best]:,}",
    )
    axis.axvline(steps[best], color=AGREEMENT_COLOUR, lw=style.line / 2, linestyle=":")
    return list(handles)


@own_settings()
def perturbation_curves(
    panels: Mapping[str, Mapping[str, Line]],
    score: str,
    title: str,
    style: Style = PAGE,
    below: str = "regions perturbed",
) -> Any:
    """Score over the number of perturbed regions, one panel for each heatmap.

    Args:
        panels: by the name of the heatmap, the curve of each order by its name, (L+1,) each.
        score: what is measured, such as "probability".
        title: text above all.
        style: sizes.
        below: what a step is, if not one region more.

    Returns:
        A matplotlib Figure: `figure.savefig(path)`.

    Example:
        >>> curves = {"most relevant first": Line([0.9, 0.3]), "random order": Line([0.9, 0.6])}
        >>> figure = perturbation_curves({"lrp": curves}, "probability", "step 500")
        >>> figure.axes[0].get_title(), figure.axes[0].get_xlabel()
        ('lrp, step 500', 'regions perturbed')
    """
    from matplotlib.figure import Figure

    columns = 1 if len(panels) == 1 else 2
    rows = ceil(len(panels) / columns)
    size = (style.width * (1 + 0.2 * (columns - 1)), style.height * (1 + 0.4 * (rows - 1)))
    figure = Figure(figsize=size, dpi=style.dots_per_inch, layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    handles: list[Any] = []
    for axis, (name, lines) in zip(axes.flat, panels.items(), strict=False):
        steps = range(max(len(line.values) for line in lines.values()))
        handles = _draw_lines(axis, steps, lines, style, vary_dashes=True)
        axis.set_title(name, fontsize=style.label, parse_math=False)
        axis.set_xlim(0, max(steps))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.tick_params(labelsize=style.legend)
        axis.grid(alpha=0.25)
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_axis_off()
    for axis in list(axes.flat)[: len(panels)][-columns:]:
        axis.set_xlabel(below, fontsize=style.label)
        axis.tick_params(labelbottom=True)
    for axis in axes[:, 0]:
        axis.set_ylabel(f"{score} ± SEM", fontsize=style.label, parse_math=False)
    if len(panels) == 1:
        above = f"{next(iter(panels))}, {title}"
        axes[0, 0].set_title(above, fontsize=style.label, parse_math=False)
    else:
        figure.suptitle(title, fontsize=style.label, parse_math=False)
    _legend_below(figure, handles, style)
    return figure


def _draw_lines(
    axis: Any,
    steps: Sequence[int],
    lines: Mapping[str, Line],
    style: Style,
    vary_dashes: bool = False,
) -> list[Any]:
    colours, handles = iter(COLOURS * len(lines)), []
    dashes = iter(("-", "-.", ":") * len(lines) if vary_dashes else ("-",) * len(lines))
    marker = "" if vary_dashes else "o"
    for name, line in lines.items():
        colour, dash = (CONTROL_COLOUR, "--") if line.is_control else (next(colours), next(dashes))
        handles += _draw_line(axis, steps, line, colour, name, style, marker=marker, linestyle=dash)
    return handles


def _draw_line(
    axis: Any, steps: Sequence[int], line: Line, colour: str, name: str, style: Style, **kind: str
) -> list[Any]:
    """A line through the values that there are, over their band."""
    values = np.asarray(line.values, dtype=float)
    known = np.isfinite(values)
    x, values = np.asarray(steps)[known], values[known]
    if line.errors is not None:
        errors = np.nan_to_num(np.asarray(line.errors, dtype=float)[known])
        axis.fill_between(x, values - errors, values + errors, color=colour, alpha=0.2, lw=0)
    drawn: Iterable[Any] = axis.plot(
        x, values, color=colour, lw=style.line, ms=style.marker, label=name, **kind
    )
    return list(drawn)


def _space(axis: Any, steps: Sequence[int]) -> None:
    last = max(*steps, 1)
    if median(steps) < last / 4:
        first = min((step for step in steps if step > 0), default=1)
        axis.set_xscale("symlog", linthresh=first, linscale=0.3)
    axis.set_xlim(0, last)


def _legend_below(figure: Any, handles: list[Any], style: Style) -> None:
    # Names of heatmaps are long, and the legend must not become wider than the figure.
    legend = figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 2 if style.is_small else 3),
        fontsize=style.legend,
        frameon=False,
    )
    _take_literally(legend)


def _take_literally(legend: Any) -> None:
    for text in legend.get_texts():
        text.set_parse_math(False)
