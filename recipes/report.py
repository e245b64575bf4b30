"""What a run of `training_progress` found: correlations, a table, a CSV file and a figure."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import pearsonr, spearmanr

from aopc_monitor import figures
from recipes.accuracy import KEY as ACCURACY


@dataclass(frozen=True)
class Report:
    """All points of one run.

    Attributes:
        title: the data set.
        heatmaps: names of the heatmaps.
        points: one dict per evaluation, as the monitor's history with `accuracy/test` added.
    """

    title: str
    heatmaps: Sequence[str]
    points: Sequence[dict[str, float]]

    def column(self, key: str) -> list[float]:
        """One quantity over all evaluations."""
        return [point[key] for point in self.points]

    def correlations(self, key: str) -> tuple[float, float]:
        """Pearson and Spearman correlation of a quantity with test accuracy."""
        values, accuracy = self.column(key), self.column(ACCURACY)
        return float(pearsonr(values, accuracy)[0]), float(spearmanr(values, accuracy)[0])

    def table(self) -> str:
        """The table for people: correlations with test accuracy, and where each signal ended."""
        signals = [f"aopc/{name}{end}" for name in self.heatmaps for end in ("", "_gain")]
        signals += ["aopc/random", "aopc/confidence"]
        lines = [
            f"{self.title}: correlation with test accuracy over {len(self.points)} evaluations",
            f"{'signal':32}{'Pearson':>9}{'Spearman':>10}{'at the end':>12}{'± SEM':>9}{'z':>7}",
        ]
        last = self.points[-1]
        for key in signals:
            pearson, spearman = self.correlations(key)
            sem = last[f"{key}_sem"]
            # Only for a gain is "different from zero" a question.
            z = f"{last[key] / sem:7.1f}" if key.endswith("_gain") and sem else ""
            lines.append(f"{key:32}{pearson:9.3f}{spearman:10.3f}{last[key]:12.3f}{sem:9.3f}{z}")
        lines.append(f"{ACCURACY:32}{'':19}{last[ACCURACY]:12.3f}")
        lines.append("gain: AOPC minus that of a random order; z: its paired difference / SEM")
        return "\n".join(lines)

    def write_csv(self, path: Path) -> None:
        """All points, one row per evaluation."""
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(self.points[-1]))
            writer.writeheader()
            writer.writerows(self.points)

    def write_figure(self, path: Path) -> None:
        """AOPC of the heatmaps and of the random order, and accuracy, over training."""
        lines = {
            name: figures.Line(self.column(f"aopc/{name}"), self.column(f"aopc/{name}_sem"))
            for name in self.heatmaps
        }
        lines["random order"] = figures.Line(
            self.column("aopc/random"), self.column("aopc/random_sem"), is_control=True
        )
        pearson, spearman = self.correlations(f"aopc/{self.heatmaps[0]}")
        title = (
            f"{self.title}: AOPC of {self.heatmaps[0]} and test accuracy, "
            f"Pearson {pearson:.3f}, Spearman {spearman:.3f}"
        )
        steps = [int(step) for step in self.column("step")]
        figures.training_progress(steps, lines, self.column(ACCURACY), title).savefig(path)
