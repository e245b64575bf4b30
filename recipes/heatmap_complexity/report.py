"""What a study of the complexity of heatmaps found: tables, CSV files and a figure."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.stats import spearmanr
from torch import Tensor

from aopc_monitor import MeanAndError
from recipes.shared.heatmap_figures import complexity
from recipes.shared.heatmap_study import FAMILIES, family
from recipes.shared.reporting.markdown import markdown_table, write_csv, z_text

# Names for people, and decimals that a table shows.
MEASURES = {
    "png": ("PNG size in bytes", 0),
    "jpeg": ("JPEG size in bytes", 0),
    "entropy": ("Entropy in bits per pixel", 2),
}
# A rank correlation of two is 1 or -1 whatever they are.
FEWEST_FOR_RANKS = 3


@dataclass(frozen=True)
class Report:
    """All that is written at the end of a study.

    Attributes:
        title: the images and the network.
        values: by heatmap and by one of `MEASURES`, (N,).
        reference: name of the heatmap that the others are compared with.
        images: for each image what identifies it: row, label, predicted class.
        settings: name and value of each, for people.
        command: that makes the study again.
        areas: mean AOPC by region size and heatmap, or None.
    """

    title: str
    values: Mapping[str, Mapping[str, Tensor]]
    reference: str
    images: Sequence[Mapping[str, object]]
    settings: Mapping[str, object]
    command: str
    areas: Mapping[int, Mapping[str, float]] | None = None

    def write(self, folder: Path) -> None:
        """Write complexity.csv, fig5.png and report.md."""
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / "complexity.csv", self._rows())
        values = {
            name: {measure: of_images.tolist() for measure, of_images in of_heatmap.items()}
            for name, of_heatmap in self.values.items()
        }
        labels = {measure: label for measure, (label, _) in MEASURES.items()}
        complexity(values, labels, self.title).savefig(folder / "fig5.png")
        (folder / "report.md").write_text(self.text(), encoding="utf-8")

    def _rows(self) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for name, of_heatmap in self.values.items():
            columns = [of_heatmap[measure].tolist() for measure in MEASURES]
            for image, *of_image in zip(self.images, *columns, strict=True):
                rows.append(
                    {**image, "heatmap": name, **dict(zip(MEASURES, of_image, strict=True))}
                )
        return rows

    def ranking(self, measure: str) -> list[str]:
        """Names by their mean, the simplest first."""
        return sorted(self.values, key=lambda name: float(self.values[name][measure].mean()))

    def table(self, measure: str) -> str:
        """Heatmaps from the simplest on, each compared with the reference, image by image."""
        label, decimals = MEASURES[measure]
        rows: list[list[object]] = []
        for name in self.ranking(measure):
            values = self.values[name][measure]
            row: list[object] = [name, MeanAndError.of(values).text(decimals)]
            if name == self.reference:
                rows.append([*row, "", "", ""])
                continue
            difference = values - self.values[self.reference][measure]
            estimate = MeanAndError.of(difference)
            simpler = f"{float((difference < 0).double().mean()):.0%}"
            rows.append([*row, estimate.text(decimals), z_text(estimate), simpler])
        header = ["heatmap", f"{label} ± SEM", f"minus {self.reference}", "z", "smaller on"]
        return markdown_table(header, rows)

    def verdict(self, measure: str) -> str:
        """One sentence: is LRP simpler than the other families of the paper?"""
        means = {name: float(of[measure].mean()) for name, of in self.values.items()}
        best, *others = FAMILIES
        of_best = [means[name] for name in means if family(name) == best]
        of_others = [means[name] for name in means if family(name) in others]
        label = MEASURES[measure][0]
        if not of_best or not of_others:
            return f"{label}: nothing to compare with the paper without LRP and another family."
        simpler = sum(mean < min(of_others) for mean in of_best)
        agrees = "as in the paper" if simpler == len(of_best) else "in the paper all are"
        return (
            f"{label}: {simpler} of {len(of_best)} LRP heatmaps are simpler on average than every "
            f"deconvolution and sensitivity heatmap ({agrees})."
        )

    def text(self) -> str:
        """The report in Markdown."""
        parts = [
            f"# Complexity of heatmaps: {self.title}",
            "Fig. 5 of Samek et al. 2017: a heatmap that shows what matters and no more is better "
            "compressible than a noisy one. Each heatmap is a grey picture scaled by its own "
            "largest magnitude, zero being the middle grey. Differences are paired, image by "
            "image; z is a mean difference in units of its standard error, and the last column "
            f"tells on how many images the heatmap is simpler than {self.reference}.",
            "\n".join(f"- {self.verdict(measure)}" for measure in MEASURES),
            "![File size and entropy of the heatmaps](fig5.png)",
        ]
        for measure, (label, _) in MEASURES.items():
            parts += [f"## {label}", self.table(measure)]
        if self.areas is not None:
            parts += ["## Complexity and AOPC", self._correlations(self.areas)]
        settings = markdown_table(["setting", "value"], list(self.settings.items()))
        parts += ["## Settings", settings, f"```bash\n{self.command}\n```"]
        return "\n\n".join(parts) + "\n"

    def _correlations(self, areas: Mapping[int, Mapping[str, float]]) -> str:
        means = {
            measure: {name: float(self.values[name][measure].mean()) for name in self.values}
            for measure in MEASURES
        }
        shared = shared_names(self.values, areas)
        rows = []
        for size, of_heatmaps in areas.items():
            of_areas = [of_heatmaps[name] for name in shared]
            of_measures = [[means[measure][name] for name in shared] for measure in MEASURES]
            found = [f"{spearmanr(values, of_areas)[0]:.2f}" for values in of_measures]
            rows.append([size, *found])
        table = markdown_table(["region size", *(label for label, _ in MEASURES.values())], rows)
        return (
            "Rank correlation (Spearman) of the mean complexity and the mean AOPC over "
            f"{len(shared)} heatmaps; below 0, the simpler heatmaps have the larger AOPC:\n\n"
            f"{table}"
        )


def shared_names(names: Iterable[str], areas: Mapping[int, Mapping[str, float]]) -> list[str]:
    """Names of heatmaps of which the areas are known too.

    Raises:
        ValueError: if they are too few for a rank correlation.
    """
    known = next(iter(areas.values()))
    shared = [name for name in names if name in known]
    if len(shared) < FEWEST_FOR_RANKS:
        raise ValueError(
            f"--areas holds {', '.join(known)}, of which the study has only {len(shared)}: a rank "
            f"correlation needs at least {FEWEST_FOR_RANKS}"
        )
    return shared


def mean_areas(path: Path) -> dict[int, dict[str, float]]:
    """Mean AOPC of each heatmap by region size, from the areas.csv of `compare_heatmaps`.

    Raises:
        ValueError: if there is no such file, or it is another one.
    """
    if not path.is_file():
        raise ValueError(
            f"--areas {str(path)!r} does not exist: run recipes.compare_heatmaps first"
        )
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or "region_size" not in rows[0]:
        raise ValueError(
            f"--areas {str(path)!r} has no column region_size: give the areas.csv that "
            "recipes.compare_heatmaps wrote"
        )
    names = [name for name in rows[0] if name not in ("region_size", "image", "label", "predicted")]
    sizes = dict.fromkeys(int(row["region_size"]) for row in rows)
    return {
        size: {
            name: float(torch.tensor(
                [float(row[name]) for row in rows if int(row["region_size"]) == size]
            ).double().mean())
            for name in names
        }
        for size in sizes
    }  # fmt: skip
