"""Correlation over the number of removed features, like Fig. 3 of Ancona et al. 2018."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aopc_monitor.figures import COLOURS, CONTROL_COLOUR
from recipes.sensitivity_n.found import Found

# Plum where the colours of the package run out.
_COLOURS = (*COLOURS, "#7A3B69")
_MARKERS = "osD^vP*X"
_STROKES = ("-", "--", ":", "-.", "-", ":", "-")


def correlation_curves(found: Mapping[str, Found], title: str, feature: str = "pixel") -> Any:
    """One panel for each network, one line for each method, with a band of one standard error.

    Args:
        found: by network, all with the same methods.
        title: of all.
        feature: what is removed.

    Returns:
        A matplotlib Figure: `figure.savefig(path)`.
    """
    from matplotlib.figure import Figure

    columns = min(len(found), 3)
    rows = -(-len(found) // columns)
    size = (2.2 + 3.6 * columns, 0.8 + 3.2 * rows)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axes = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    for axis, (network, of_network) in zip(axes, found.items(), strict=False):
        _draw(axis, of_network)
        axis.set_title(f"{network}, accuracy {of_network.accuracy:.3f}", fontsize=10)
    for axis in axes[len(found) :]:
        axis.set_visible(False)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", fontsize=9, handlelength=4)
    figure.supxlabel(f"removed {feature}s n", fontsize=10)
    figure.supylabel("correlation of relevance and drop of the logit", fontsize=10)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw(axis: Any, found: Found) -> None:
    axis.axhline(0, color="black", lw=0.6)
    for number, method in enumerate(found.correlations):
        curve = found.curve(method)
        means = [point.mean for point in curve]
        is_control = method == "random"
        colour = CONTROL_COLOUR if is_control else _COLOURS[number % len(_COLOURS)]
        look = {"marker": _MARKERS[number % 8], "linestyle": _STROKES[number % 7]}
        # Lines that lie on each other are told apart by their marks, the first the largest.
        axis.plot(found.sizes, means, color=colour, lw=1.5, ms=9 - number, label=method, **look)
        low = [point.mean - point.sem for point in curve]
        high = [point.mean + point.sem for point in curve]
        axis.fill_between(found.sizes, low, high, color=colour, alpha=0.15, lw=0)
    axis.set_xscale("log")
    axis.set_ylim(-0.25, 1.05)
    axis.grid(alpha=0.25)
