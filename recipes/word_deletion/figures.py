"""Pictures of `word_deletion`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from torch import Tensor

from aopc_monitor import figures
from aopc_monitor.figures import COLOURS, CONTROL_COLOUR
from recipes.shared.training.beside import ACCURACY

if TYPE_CHECKING:
    from recipes.shared.data.labelled_texts import TextData
    from recipes.word_deletion.deletion import Sorted
    from recipes.word_deletion.document_vectors import Projection

TEXTS_SHOWN = 3
# Two heatmaps may have the same curve.
DASHES = ("-", (0, (4, 4)), "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def deletion_figure(accuracies: Mapping[str, Mapping[str, Tensor]], title: str) -> Any:
    """Accuracy against the number of deleted words, one panel for each protocol."""
    figure = Figure(figsize=(4.2 * len(accuracies) + 0.4, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots(1, len(accuracies), squeeze=False)[0]
    for axis, (protocol, curves) in zip(axes, accuracies.items(), strict=True):
        for (name, curve), colour, dashes in zip(
            curves.items(), _colours(curves), cycle(DASHES), strict=False
        ):
            axis.plot(curve.tolist(), color=colour, linestyle=dashes, label=name)
        first = "least" if "wrongly" in protocol else "most"
        axis.set_title(f"{protocol}: {first} relevant first", fontsize=10)
        axis.set_xlabel("deleted words")
        axis.set_ylabel("accuracy")
        axis.grid(alpha=0.25)
    axes[0].legend(fontsize=8)
    figure.suptitle(title, fontsize=11)
    return figure


def projection_figure(
    projections: Mapping[str, Projection], topics: Tensor, classes: Sequence[str], title: str
) -> Any:
    """Documents in the plane of their first two principal components, one panel for each weight."""
    columns = min(3, len(projections))
    rows = -(-len(projections) // columns)
    figure = Figure(figsize=(3.1 * columns, 3.1 * rows + 0.8), dpi=110, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, (name, projection) in zip(axes.flat, projections.items(), strict=False):
        for topic, label in enumerate(classes):
            points = projection.points[(topics == topic).numpy()]
            axis.scatter(
                *points.T, s=12, alpha=0.7, linewidths=0, label=label,
                color=COLOURS[topic % len(COLOURS)], marker=MARKERS[topic % len(MARKERS)],
            )  # fmt: skip
        axis.set_title(f"{name}: neighbours {projection.accuracy:.0%}", fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
    for axis in axes.flat[len(projections) :]:
        axis.set_visible(False)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if len(classes) <= len(MARKERS):
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    figure.suptitle(f"{title}: documents as sums of word vectors weighted by", fontsize=11)
    return figure


def progress_figure(points: Sequence[Mapping[str, float]], names: Sequence[str], title: str) -> Any:
    """AOPC and test accuracy while the network is trained."""

    def line(key: str, is_control: bool = False) -> figures.Line:
        values, errors = ([point[k] for point in points] for k in (key, f"{key}_sem"))
        return figures.Line(values, errors, is_control=is_control)

    lines = {name: line(f"aopc/{name}") for name in names if name != "random"}
    lines["random order"] = line("aopc/random", is_control=True)
    steps = [int(point["step"]) for point in points]
    accuracy = [point[ACCURACY] for point in points]
    return figures.training_progress(steps, lines, accuracy, f"{title}: AOPC and test accuracy")


def texts_figure(found: Sorted, data: TextData) -> Any:
    """A few documents with the relevance of their words, as a picture."""
    return figures.text_gallery(*_texts(found, data))


def texts_page(found: Sorted, data: TextData) -> str:
    """The same as a page, with all words."""
    return figures.text_html(*_texts(found, data))


def _texts(found: Sorted, data: TextData) -> tuple[Any, Any, list[str]]:
    words = found.texts.texts[:TEXTS_SHOWN]
    maps = {
        name: [relevance[i, : len(text)].numpy() for i, text in enumerate(words)]
        for name, relevance in found.relevances.items()
        if name != "random"
    }
    labels = found.texts.labels.tolist()
    titles = [
        f"sorted into {data.classes[guess]}, of {data.classes[label]}"
        for guess, label in zip(found.predicted.tolist()[:TEXTS_SHOWN], labels, strict=False)
    ]
    return words, maps, titles


def _colours(names: Mapping[str, object]) -> list[str]:
    colours = iter(COLOURS)
    return [CONTROL_COLOUR if name == "random" else next(colours) for name in names]
