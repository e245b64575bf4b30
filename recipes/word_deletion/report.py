"""What `word_deletion` found: tables, figures, coloured texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from scipy.stats import pearsonr, spearmanr
from torch import Tensor

from aopc_monitor import MeanAndError
from recipes.shared.data.labelled_texts import TextData
from recipes.shared.reporting.markdown import markdown_table, write_csv, z_text
from recipes.shared.training.beside import ACCURACY
from recipes.word_deletion import figures
from recipes.word_deletion.deletion import Sorted
from recipes.word_deletion.document_vectors import FOLDS, NEIGHBOURS, Projection

# Numbers of deleted words that the table shows.
SHOWN = (0, 5, 10, 20, 30, 50)


@dataclass(frozen=True)
class Report:
    """All that a run found.

    Attributes:
        data: the texts.
        found: those of the test that were studied.
        points: one for each look while the network was trained.
        accuracies: by protocol and heatmap, accuracy at 0, 1, ... deleted words.
        areas: by heatmap, (N,) area over the curve of each text.
        projections: by heatmap, the texts as sums of their word vectors.
        command: that makes it again.
    """

    data: TextData
    found: Sorted
    points: Sequence[Mapping[str, float]]
    accuracies: Mapping[str, Mapping[str, Tensor]]
    areas: Mapping[str, Tensor]
    projections: Mapping[str, Projection]
    command: str

    def text(self) -> str:
        """All tables, in Markdown."""
        parts = [
            f"Test accuracy {self.points[-1][ACCURACY]:.3f} on {len(self.data.test)} documents, "
            f"{len(self.data.train)} of the training, {len(self.data.vocabulary):,} words.",
            *(self._accuracy_table(protocol) for protocol in self.accuracies),
            self.area_table(),
            self.order_found(),
            self._projection_table(),
            self._progress_table(),
        ]
        return "\n\n".join(parts)

    def ranking(self) -> list[str]:
        """Heatmaps from the greatest area to the least."""
        return sorted(self.areas, key=lambda name: -float(self.areas[name].mean()))

    def area_table(self) -> str:
        """AOPC of each heatmap, and z of its paired difference to the random order."""
        rows = [
            [name, MeanAndError.of(self.areas[name]), z_text(self._difference(name, "random"))]
            for name in self.ranking()
        ]
        title = "### AOPC, no label needed: words deleted, most relevant first"
        return f"{title}\n\n" + markdown_table(["heatmap", "AOPC", "z against random"], rows)

    def order_found(self) -> str:
        """The ranking in a sentence, with the z of each pair of neighbours."""
        names = self.ranking()
        parts = [names[0]]
        for first, second in pairwise(names):
            parts.append(f"> (z = {z_text(self._difference(first, second))}) {second}")
        return "Order found: " + " ".join(parts) + "."

    def write(self, folder: Path) -> None:
        """The report, the CSV files and the figures."""
        folder.mkdir(parents=True, exist_ok=True)
        figures.deletion_figure(self.accuracies, self.data.name).savefig(folder / "deletion.png")
        figures.projection_figure(
            self.projections, self.found.texts.labels, self.data.classes, self.data.name
        ).savefig(folder / "documents.png")
        figures.progress_figure(self.points, list(self.areas), self.data.name).savefig(
            folder / "progress.png"
        )
        figures.texts_figure(self.found, self.data).savefig(folder / "texts.png")
        (folder / "texts.html").write_text(figures.texts_page(self.found, self.data), "utf-8")
        write_csv(folder / "deletion.csv", self._deletion_rows())
        rows = zip(*(area.tolist() for area in self.areas.values()), strict=True)
        write_csv(folder / "areas.csv", [dict(zip(self.areas, row, strict=True)) for row in rows])
        pictures = "\n\n".join(
            f"![]({name}.png)" for name in ("deletion", "texts", "documents", "progress")
        )
        text = (
            f"# {self.data.name}: words deleted\n\n{pictures}\n\n{self.text()}\n\n{LEGEND}\n\n"
            f"Made by `{self.command}`.\n"
        )
        (folder / "report.md").write_text(text, encoding="utf-8")

    def _difference(self, first: str, second: str) -> MeanAndError:
        if second not in self.areas:
            return MeanAndError(float("nan"), float("nan"))
        return MeanAndError.of(self.areas[first] - self.areas[second])

    def _accuracy_table(self, protocol: str) -> str:
        curves = self.accuracies[protocol]
        last = len(next(iter(curves.values()))) - 1
        shown = [number for number in SHOWN if number <= last]
        rows = [
            [name, *(f"{float(curve[number]):.3f}" for number in shown)]
            for name, curve in curves.items()
        ]
        title = f"### Accuracy against the number of deleted words, {protocol}"
        return f"{title}\n\n" + markdown_table(["heatmap", *map(str, shown)], rows)

    def _projection_table(self) -> str:
        rows = [
            [name, f"{one.explained:.3f}", f"{one.accuracy:.3f}"]
            for name, one in self.projections.items()
        ]
        header = ["weights", "variance in two directions", "accuracy of neighbours"]
        return "### Documents as sums of word vectors\n\n" + markdown_table(header, rows)

    def _progress_table(self) -> str:
        keys = [f"aopc/{name}" for name in self.areas]
        accuracy = [point[ACCURACY] for point in self.points]
        rows = []
        for key in [*dict.fromkeys([*keys, "aopc/random"]), "aopc/confidence"]:
            values = [point[key] for point in self.points]
            pearson, spearman = pearsonr(values, accuracy)[0], spearmanr(values, accuracy)[0]
            rows.append([f"`{key}`", f"{pearson:.3f}", f"{spearman:.3f}", f"{values[-1]:.3f}"])
        title = f"### Correlation with test accuracy over {len(self.points)} evaluations"
        header = ["signal", "Pearson", "Spearman", "at the end"]
        return f"{title}\n\n" + markdown_table(header, rows)

    def _deletion_rows(self) -> list[dict[str, object]]:
        return [
            {"documents": protocol, "heatmap": name, "deleted": number, "accuracy": float(value)}
            for protocol, curves in self.accuracies.items()
            for name, curve in curves.items()
            for number, value in enumerate(curve)
        ]


LEGEND = f"""\
A deleted word is one whose vector is set to zero. Accuracy: relevance is that for the true topic;
in documents sorted rightly the most relevant words go first, in those sorted wrongly the least
relevant (Arras et al. 2016, section 4.2). AOPC: mean drop of the probability of the predicted
topic, over shares of the words of each document; ± is the standard error over documents, z that of
the paired difference. Documents: sums of word vectors weighted by relevance, of unit length; the
share of the variance in the first two principal components, and how often the topic is that of most
of the {NEIGHBOURS} nearest documents ({FOLDS}-fold cross-validation)."""
