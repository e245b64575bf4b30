"""What a comparison of scores found: tables, a CSV file and a picture."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.stats import spearmanr

from recipes.compare_scores.agreement import AGREE, CONTRADICT, Measured
from recipes.compare_scores.figures import ARROWS, number_text, scores_picture
from recipes.compare_scores.scores import CONTROL, SCORES
from recipes.shared.reporting.markdown import markdown_table, write_csv, z_text

# A paired difference of so many standard errors is there.
SURE = 3.0


@dataclass(frozen=True)
class Other:
    """What another run found, of another network.

    Attributes:
        name: of the network.
        measured: every score of its heatmaps.
        images: (N,) the numbers of its images.
    """

    name: str
    measured: Measured
    images: Sequence[int]

    @classmethod
    def read(cls, path: Path) -> Other:
        """From the scores.csv of the other run.

        Raises:
            ValueError: if there is no such file, or it is another one.
        """
        if not path.is_file():
            raise ValueError(
                f"--beside {str(path)!r} does not exist: give a scores.csv of this recipe"
            )
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        missing = [
            name for name in ("image", "heatmap", *SCORES) if not rows or name not in rows[0]
        ]
        if missing:
            raise ValueError(
                f"--beside {str(path)!r} has no column {', '.join(missing)}: give the scores.csv "
                "that this recipe wrote"
            )
        names = tuple(dict.fromkeys(row["heatmap"] for row in rows))
        of_names = [[row for row in rows if row["heatmap"] == name] for name in names]
        values = [[[float(row[score]) for score in SCORES] for row in of] for of in of_names]
        images = [int(row["image"]) for row in of_names[0]]
        found = torch.tensor(values, dtype=torch.float64).transpose(0, 1)
        return cls(path.parent.name, Measured(names, found), images)


@dataclass(frozen=True)
class Report:
    """All that is written at the end of a study.

    Attributes:
        title: the images and the network.
        measured: every score of every heatmap.
        images: for each image what identifies it: row, label, predicted class.
        settings: name and value of each, for people.
        command: that makes the study again.
        other: the same of another network, or None.
    """

    title: str
    measured: Measured
    images: Sequence[Mapping[str, object]]
    settings: Mapping[str, object]
    command: str
    other: Other | None = None

    def write(self, folder: Path) -> None:
        """Write scores.csv, scores.png and report.md."""
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / "scores.csv", self._rows())
        scores_picture(self.measured, self.title).savefig(folder / "scores.png")
        (folder / "report.md").write_text(self.text(), encoding="utf-8")

    def _rows(self) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for name in self.measured.heatmaps:
            columns = [self.measured.of(name, score).tolist() for score in SCORES]
            for image, *of_image in zip(self.images, *columns, strict=True):
                found = dict(zip(SCORES, of_image, strict=True))
                rows.append({**image, "heatmap": name, **found})
        return rows

    def table(self) -> str:
        """Heatmaps by scores: the mean, and the place by it in brackets."""
        rows = []
        for name in self.measured.by_place:
            row = self.measured.heatmaps.index(name)
            places = self.measured.ranks[row].tolist()
            means = [self.measured.estimate(name, score).mean for score in SCORES]
            cells = [
                f"{number_text(mean)} ({place:g})"
                for mean, place in zip(means, places, strict=True)
            ]
            rows.append([name, *cells])
        header = [f"{name} {ARROWS[score.higher_is_better]}" for name, score in SCORES.items()]
        return markdown_table(["heatmap", *header], rows)

    def score_table(self) -> str:
        """What each score asks, and whether it tells heatmaps from chance and from each other."""
        rows = []
        names = [name for name in self.measured.by_place if name != CONTROL]
        for score, of_score in SCORES.items():
            column = [*SCORES].index(score)
            best, second = sorted(
                names,
                key=lambda n: float(self.measured.ranks[self.measured.heatmaps.index(n), column]),
            )[:2]
            leads = [self.measured.lead(name, score) for name in names]
            above = sum(lead.z > SURE for lead in leads)
            below = sum(lead.z < -SURE for lead in leads)
            to_second = z_text(self.measured.lead(best, score, second))
            way = ARROWS[of_score.higher_is_better]
            told = [f"{score} {way}", of_score.question, of_score.replacement]
            rows.append([*told, best, to_second, above, below])
        header = ["score", "asks", "removed regions become", "best", "z to the second"]
        return markdown_table([*header, "above random", "below random"], rows)

    def pair_table(self) -> str:
        """Every two scores with both rank correlations."""
        pairs = self.measured.without_control.pairs()
        rows = [[f"{a}, {b}", f"{means:.2f}", f"{within:.2f}"] for a, b, means, within in pairs]
        return markdown_table(["two scores", "by means", "within an image"], rows)

    def agreements(self) -> list[str]:
        """Sentences: which scores agree, and which contradict each other."""
        pairs = self.measured.without_control.pairs()
        agree = [f"{a} and {b} ({r:.2f})" for a, b, r, _ in pairs if r >= AGREE]
        against = [f"{a} and {b} ({r:.2f})" for a, b, r, _ in reversed(pairs) if r <= CONTRADICT]
        return [
            f"- **Agree**, rank correlation of the means {AGREE} or more: "
            f"{'; '.join(agree) or 'no two'}.",
            f"- **Contradict each other**, {CONTRADICT:g} or less: "
            f"{'; '.join(against) or 'no two'}.",
        ]

    def both_ends(self) -> str:
        """One sentence on most and least relevant first."""
        measured = self.measured.without_control
        row, column = [*SCORES].index("aopc"), [*SCORES].index("lerf")
        found = float(measured.of_means[row, column])
        within = float(measured.within_images[row, column])
        moved = measured.ranks[:, row] - measured.ranks[:, column]
        most = int(moved.abs().argmax())
        places = measured.ranks[most, [row, column]].tolist()
        return (
            f"- **Most and least relevant first** order the heatmaps with a rank correlation of "
            f"{found:.2f} (within an image {within:.2f}): `{measured.heatmaps[most]}` moves "
            f"farthest, from place {places[0]:g} to {places[1]:g} of {len(measured.heatmaps)}."
        )

    def text(self) -> str:
        """The report in Markdown."""
        parts = [
            f"# Scores of heatmaps: {self.title}",
            "Every score of every heatmap, on the same images. In brackets the place among the "
            "heatmaps; heatmaps stand by their mean place over the scores that ask the network. An "
            "arrow tells which way is better.",
            self.table(),
            "![Heatmaps by scores, and rank correlations of the scores](scores.png)",
            "## Which agree",
            "\n".join([*self.agreements(), self.both_ends()]),
            "Spearman's rank correlation over the heatmaps without the random one, each score "
            "turned so that larger is better: of the means over images, and of the heatmaps of one "
            "image, averaged over images.",
            self.pair_table(),
            "## What each score tells",
            "How many heatmaps are better, and worse, than the random one by more than "
            f"{SURE:g} standard errors, image by image; and the z of the best to the second.",
            self.score_table(),
        ]
        if self.other is not None:
            images = [int(str(image["image"])) for image in self.images]
            parts += ["## Another network", *across_networks(self.measured, images, self.other)]
        settings = markdown_table(["setting", "value"], list(self.settings.items()))
        parts += ["## Settings", settings, f"```bash\n{self.command}\n```"]
        return "\n\n".join(parts) + "\n"


def across_networks(measured: Measured, images: Sequence[int], other: Other) -> list[str]:
    """A table of the heatmaps of two networks on the same images, and what follows from it.

    Args:
        measured: of the network studied.
        images: (N,) the numbers of its images.
        other: of the other network.
    """
    shared = [image for image in images if image in set(other.images)]
    if not shared:
        return [f"No image was measured of `{other.name}` too."]
    here = measured.at([images.index(image) for image in shared])
    there = other.measured.at([other.images.index(image) for image in shared])
    names = [name for name in here.heatmaps if name in there.heatmaps and name != CONTROL]
    rows = []
    for score, of_score in SCORES.items():
        both = [[of.estimate(name, score).mean for name in names] for of in (here, there)]
        best = [(max if of_score.higher_is_better else min)(means) for means in both]
        random = [of.estimate(CONTROL, score).mean for of in (here, there)]
        numbers = [number_text(number) for number in (random[0], best[0], random[1], best[1])]
        way = ARROWS[of_score.higher_is_better]
        rows.append([f"{score} {way}", *numbers, f"{spearmanr(*both)[0]:.2f}"])
    header = ["score", "random", "best", f"random, {other.name}", f"best, {other.name}"]
    chance = here.estimate(CONTROL, "aopc").mean - there.estimate(CONTROL, "aopc").mean
    gains = [here.lead(name, "aopc").mean for name in names]
    return [
        f"The same heatmaps of `{other.name}` on the {len(shared)} images that were measured of "
        "both, with the rank correlation of their order.",
        markdown_table([*header, "rank correlation"], rows),
        f"AOPC of the random order differs by {abs(chance):.3f} between the networks, in which no "
        f"heatmap has a part; the best heatmap here is {max(gains):.3f} above chance.",
    ]
