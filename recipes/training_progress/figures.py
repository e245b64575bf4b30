"""Pictures of `training_progress`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from aopc_monitor import figures
from aopc_monitor.figures import COLOURS, CONTROL_COLOUR
from recipes.shared.training.beside import ACCURACY

if TYPE_CHECKING:
    from recipes.training_progress.report import Run

MARKERS = ("o", "s", "^", "D", "v", "P")


def figure_of_run(run: Run, title: str, heatmaps: Sequence[str]) -> Any:
    """AOPC of the heatmaps and of the random order, and accuracy, over one training."""
    lines = {
        name: figures.Line(run.column(f"aopc/{name}"), run.column(f"aopc/{name}_sem"))
        for name in heatmaps
    }
    lines["random order"] = figures.Line(
        run.column("aopc/random"), run.column("aopc/random_sem"), is_control=True
    )
    pearson, spearman = run.correlations(f"aopc/{heatmaps[0]}")
    text = (
        f"{title}, {run.network}: AOPC of {heatmaps[0]} and test accuracy, "
        f"Pearson {pearson:.3f}, Spearman {spearman:.3f}"
    )
    steps = [int(step) for step in run.column("step")]
    return figures.training_progress(steps, lines, run.column(ACCURACY), text)


def figure_of_study(runs: Mapping[str, Sequence[Run]], title: str, heatmap: str) -> Any:
    """AOPC against test accuracy, one panel per network, one marker per seed.

    Args:
        runs: by network.
        title: the image set.
        heatmap: the heatmap whose AOPC is drawn, beside that of the random order.
    """
    columns = min(len(runs), 4)
    rows = -(-len(runs) // columns)
    figure = Figure(figsize=(3.1 * columns + 0.4, 3.1 * rows + 0.6), dpi=110, layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    drawn = [
        (f"AOPC of {heatmap}", f"aopc/{heatmap}", COLOURS[0]),
        ("AOPC of a random order", "aopc/random", CONTROL_COLOUR),
    ]
    for axis, (network, of_network) in zip(axes.flat, runs.items(), strict=False):
        for marker, run in zip(MARKERS * len(of_network), of_network, strict=False):
            for label, key, colour in drawn:
                axis.plot(
                    run.column(ACCURACY), run.column(key), marker, color=colour, ms=4, alpha=0.8,
                    label=label if run is of_network[0] else None,
                )  # fmt: skip
        axis.set_title(network, fontsize=10)
        axis.grid(alpha=0.25)
    for axis in axes.flat[len(runs) :]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("test accuracy")
    for axis in axes[:, 0]:
        axis.set_ylabel("AOPC (drop of probability)")
    axes[0, 0].legend(fontsize=8, loc="upper left")
    figure.suptitle(f"{title}: each point one evaluation, each marker one seed", fontsize=10)
    return figure
