"""What `series_progress` found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recipes.shared.data.labelled_tensors import TensorData
from recipes.shared.reporting.markdown import markdown_table
from recipes.shared.reporting.spread import spread
from recipes.shared.training.beside import ACCURACY
from recipes.training_progress.report import Study, row_of

LEGEND = """\
Each signal is correlated with the accuracy on all test series over the evaluations of a run; with
several seeds the mean stands before the least and the greatest. "At the end" is the last value ±
its standard error over the series of the probe, with several seeds the mean over these.
`gain`: AOPC minus that of a random order of the same series under the same noise; z: its paired
difference divided by its standard error, the least over seeds. `rivals/` look at all test series:
mean confidence and mean negative entropy."""


def write(study: Study, data: TensorData, folder: Path, command: str) -> None:
    """The report with its tables, figures and galleries, and the points as a CSV file.

    Args:
        study: all runs.
        data: the series.
        folder: of the study; each run has a folder in it, with its figure and gallery.
        command: that made it.
    """
    channels, length = data.train.tensors.shape[1:]
    parts = [
        LEGEND,
        f"{len(data.train)} training series and {len(data.test)} test series of {channels} "
        f"channel{'s' if channels > 1 else ''} and {length} steps; classes: "
        f"{', '.join(data.classes)}.",
    ]
    for run in study.runs:
        place = f"{run.network}/seed_{run.seed}"
        parts += [
            f"## {run.network}, seed {run.seed}",
            f"![AOPC and accuracy over the training]({place}/figure.png)",
            f"![Test series with their relevance for the predicted class]({place}/gallery.png)",
        ]
    study.write(folder, command, "\n\n".join(parts))


def overview(studies: Sequence[Study]) -> str:
    """A table of all sets and networks, in Markdown.

    Args:
        studies: one for each set, of the same heatmaps.
    """
    names = studies[0].heatmaps
    rows = []
    for study in studies:
        for network, runs in study.of_network().items():
            row = [study.title, network, spread([run.points[-1][ACCURACY] for run in runs])]
            for name in names:
                pearson, _, _, _ = row_of(runs, f"aopc/{name}")
                _, _, gain, z = row_of(runs, f"aopc/{name}_gain")
                row += [pearson, gain, z]
            rows.append(row)
    header = ["data", "network", "accuracy"]
    for name in names:
        header += [f"AOPC of {name}: Pearson", f"gain of {name}", "z"]
    return markdown_table(header, rows)
