"""Pictures from plain numbers.

Only this module knows matplotlib, and never pyplot's global state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
