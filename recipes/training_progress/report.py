"""What `training_progress` found: correlations with accuracy, over runs of networks and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import pearsonr, spearmanr

from recipes.shared.reporting.markdown import markdown_table, write_csv
from recipes.shared.reporting.spread import spread
from recipes.shared.training.beside import ACCURACY
from recipes.training_progress.figures import figure_of_run, figure_of_study

RIVALS = ("confidence", "negative_entropy", "atc_confidence", "atc_entropy")
LEGEND = """\
Each signal is correlated with the accuracy on all test images over the evaluations of a run; with
several seeds the mean stands before the least and the greatest. "At the end" is the last value ±
its standard error over the images of the probe, with several seeds the mean over these.
`gain`: AOPC minus that of a random order of the same images under the same noise; z: its paired
difference divided by its standard error, the least over seeds. `rivals/` look at all test images:
mean confidence, mean negative entropy, and the accuracy that average thresholded confidence (Garg
et al. 2022) guesses from labelled images held out of the training."""


@dataclass(frozen=True)
class Run:
    """All points of one training.

    Attributes:
        network: its name.
        seed: of weights, batches and probe.
        points: one dict per evaluation, the monitor's history with the rivals added.
    """

    network: str
    seed: int
    points: Sequence[Mapping[str, float]]

    def column(self, key: str) -> list[float]:
        """One quantity over all evaluations."""
        return [point[key] for point in self.points]

    def correlations(self, key: str) -> tuple[float, float]:
        """Pearson and Spearman correlation of a quantity with test accuracy."""
        values, accuracy = self.column(key), self.column(ACCURACY)
        return float(pearsonr(values, accuracy)[0]), float(spearmanr(values, accuracy)[0])


@dataclass(frozen=True)
class Study:
    """Runs of several networks and seeds on the same images.

    Attributes:
        title: the image set.
        heatmaps: names of the heatmaps.
        runs: one for each network and seed.
    """

    title: str
    heatmaps: Sequence[str]
    runs: Sequence[Run]

    def signals(self) -> list[str]:
        """The keys that are compared with accuracy, those that were measured."""
        names = [f"aopc/{name}{end}" for name in self.heatmaps for end in ("", "_gain")]
        rivals = [f"rivals/{name}" for name in RIVALS]
        measured = self.runs[0].points[0]
        return [*names, "aopc/random", "aopc/confidence", *(r for r in rivals if r in measured)]

    def of_network(self) -> dict[str, list[Run]]:
        """The runs by network."""
        names = dict.fromkeys(run.network for run in self.runs)
        return {name: [run for run in self.runs if run.network == name] for name in names}

    def text(self) -> str:
        """A table for each network, in Markdown."""
        return "\n\n".join(self._section(name, runs) for name, runs in self.of_network().items())

    def _section(self, network: str, runs: Sequence[Run]) -> str:
        seeds = "one seed" if len(runs) == 1 else f"{len(runs)} seeds"
        title = (
            f"### {network}\n\n{self.title}: correlation with test accuracy over "
            f"{len(runs[0].points)} evaluations, {seeds}"
        )
        rows = [[f"`{key}`", *row_of(runs, key)] for key in self.signals()]
        rows.append([f"`{ACCURACY}`", "", "", spread([r.points[-1][ACCURACY] for r in runs]), ""])
        return f"{title}\n\n" + markdown_table(
            ["signal", "Pearson", "Spearman", "at the end", "z"], rows
        )

    def write(self, folder: Path, command: str, below: str = LEGEND) -> None:
        """The report, the points as a CSV file, and the figure.

        Args:
            folder: where they go; made if there is none.
            command: that made them.
            below: what stands below the tables.
        """
        folder.mkdir(parents=True, exist_ok=True)
        report = (
            f"# {self.title}: AOPC and accuracy while networks train\n\n![]({'figure.png'})\n\n"
            f"{self.text()}\n\n{below}\n\nMade by `{command}`.\n"
        )
        (folder / "report.md").write_text(report, encoding="utf-8")
        labelled = [
            {"network": run.network, "seed": run.seed, **point}
            for run in self.runs
            for point in run.points
        ]
        write_csv(folder / "points.csv", labelled)
        if len(self.runs) == 1:
            figure = figure_of_run(self.runs[0], self.title, self.heatmaps)
        else:
            figure = figure_of_study(self.of_network(), self.title, self.heatmaps[0])
        figure.savefig(folder / "figure.png")


def row_of(runs: Sequence[Run], key: str) -> list[str]:
    """Correlations of a signal, where it ended, and for a gain its z."""
    pearson, spearman = zip(*(run.correlations(key) for run in runs), strict=True)
    last = [run.points[-1] for run in runs]
    sems = [point[f"{key}_sem"] for point in last if f"{key}_sem" in point]
    end = spread([point[key] for point in last])
    if len(runs) == 1 and sems:
        end = f"{end} ± {sems[0]:.3f}"
    z = ""
    if key.endswith("_gain") and all(sems):  # only for a gain is "different from zero" a question
        least = min(point[key] / sem for point, sem in zip(last, sems, strict=True))
        z = f"{least:.1f}"
    return [spread(pearson), spread(spearman), end, z]
