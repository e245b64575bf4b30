"""What `many_labels` found: correlations with exact-match accuracy, in a table and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aopc_monitor import figures
from recipes.many_labels.training import CONFIDENCE, LABEL_ACCURACY
from recipes.shared.reporting.markdown import markdown_table, write_csv
from recipes.shared.training.beside import ACCURACY
from recipes.training_progress.report import Run, row_of

TITLE = "several digits on clutter"
LEGEND = """\
Each signal is correlated with exact-match accuracy, the share of test images whose ten labels are
all right, over the evaluations of the training. "At the end" is the last value ± its standard error
over the images of the probe. AOPC explains each label that is predicted by itself, and an image
counts once, by the mean over its labels. `gain`: AOPC minus that of a random order of the same
images under the same noise; z: its paired difference divided by its standard error.
`aopc/confidence` is the mean probability of the predicted labels of the probe, `rivals/confidence`
that of all test images, and `label_accuracy/test` the share of single labels that are right."""


@dataclass(frozen=True)
class Found:
    """One training.

    Attributes:
        heatmaps: names of the heatmaps.
        run: its points.
    """

    heatmaps: Sequence[str]
    run: Run

    def signals(self) -> list[str]:
        """The keys that are compared with accuracy."""
        names = [f"aopc/{name}{end}" for name in self.heatmaps for end in ("", "_gain")]
        return [*names, "aopc/random", "aopc/confidence", CONFIDENCE, LABEL_ACCURACY]

    def text(self) -> str:
        """The table, in Markdown."""
        title = (
            f"{TITLE}, {self.run.network}: correlation with exact-match accuracy over "
            f"{len(self.run.points)} evaluations"
        )
        rows = [[f"`{key}`", *row_of([self.run], key)] for key in self.signals()]
        last = self.run.points[-1][ACCURACY]
        rows.append([f"`{ACCURACY}` (exact match)", "", "", f"{last:.3f}", ""])
        table = markdown_table(["signal", "Pearson", "Spearman", "at the end", "z"], rows)
        return f"{title}\n\n{table}"

    def figure(self) -> Any:
        """AOPC of the heatmaps and of the random order, and exact-match accuracy."""
        run = self.run
        lines = {
            name: figures.Line(run.column(f"aopc/{name}"), run.column(f"aopc/{name}_sem"))
            for name in self.heatmaps
        }
        lines["random order"] = figures.Line(
            run.column("aopc/random"), run.column("aopc/random_sem"), is_control=True
        )
        pearson, spearman = run.correlations(f"aopc/{self.heatmaps[0]}")
        title = (
            f"{TITLE}: AOPC of {self.heatmaps[0]} and exact-match accuracy, Pearson "
            f"{pearson:.3f}, Spearman {spearman:.3f}"
        )
        steps = [int(step) for step in run.column("step")]
        return figures.training_progress(
            steps, lines, run.column(ACCURACY), title, right_name="exact-match accuracy (test)"
        )

    def write(self, folder: Path, command: str) -> None:
        """The report, the points as a CSV file, and the figure."""
        folder.mkdir(parents=True, exist_ok=True)
        report = (
            f"# {TITLE.capitalize()}: AOPC and exact-match accuracy\n\n![](figure.png)\n\n"
            f"{self.text()}\n\n{LEGEND}\n\nMade by `{command}`.\n"
        )
        (folder / "report.md").write_text(report, encoding="utf-8")
        write_csv(folder / "points.csv", list(self.run.points))
        self.figure().savefig(folder / "figure.png")
