"""What a comparison of heatmaps found: tables, CSV files, figures and the order of the heatmaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from aopc_monitor import MeanAndError
from aopc_monitor.figures import Line
from aopc_monitor.metrics import mean_and_sem
from aopc_monitor.perturbation import Strata
from recipes.compare_heatmaps.areas import CONTROL
from recipes.compare_heatmaps.claims import CHANCE, claims_table
from recipes.shared.heatmap_figures import lines_over_steps
from recipes.shared.heatmap_study import FAMILIES, family
from recipes.shared.reporting.markdown import markdown_table, write_csv, z_text

# Section IV-A: 100 regions of 9 x 9 pixels.
SHARE_OF_THE_PAPER = 0.157


def area_by_step(curves: Tensor, strata: Strata) -> Tensor:
    """AOPC as a function of the last step, eq. 12 with L = 1 ... `strata.steps`.

    Args:
        curves: (..., L+1) f(x^(0)) ... f(x^(L)), NaN at steps that were not evaluated. Means over
            draws of noise only if all draws evaluated the same steps.
        strata: which steps stand for which others.

    Returns:
        (..., L) in double precision; where steps were sampled, unbiased at each of them.

    Example:
        >>> area_by_step(torch.tensor([0.9, 0.6, 0.3]), Strata(2, 2))
        tensor([0.1500, 0.3000], dtype=torch.float64)
    """
    curves = curves.double()
    sizes = torch.tensor(strata.sizes)
    # A drawn step stands for all steps of its part, the others for none.
    weights = sizes.repeat_interleave(sizes).double()
    drops = (curves[..., :1] - curves[..., 1:]).nan_to_num(nan=0.0) * weights
    return drops.cumsum(dim=-1) / torch.arange(2, strata.steps + 2)


@dataclass(frozen=True)
class Areas:
    """AOPC of each image under one region size.

    Attributes:
        region_size: in pixels.
        by_step: (N, L) for each heatmap and for the random order, by name.
    """

    region_size: int
    by_step: Mapping[str, Tensor]

    @cached_property
    def last(self) -> dict[str, Tensor]:
        """(N,) at the last step."""
        return {name: areas[:, -1] for name, areas in self.by_step.items()}

    @property
    def steps(self) -> int:
        """L."""
        return next(iter(self.by_step.values())).shape[1]

    @property
    def ranking(self) -> list[str]:
        """Names by their mean at the last step, the largest first."""
        return sorted(self.last, key=lambda name: -float(self.last[name].mean()))

    def up_to(self, steps: int) -> Areas:
        """What fewer steps would have found."""
        return Areas(self.region_size, {n: areas[:, :steps] for n, areas in self.by_step.items()})

    def lines(self, relative_to: str, names: Sequence[str]) -> dict[str, Line]:
        """Mean paired difference from one order at each step, with its standard error."""
        lines = {}
        for name in names:
            mean, sem = mean_and_sem(self.by_step[name] - self.by_step[relative_to])
            lines[name] = Line(mean.tolist(), sem.tolist())
        return lines

    def family_means(self) -> dict[str, Tensor]:
        """(N,) at the last step, averaged over the heatmaps of each of the paper's families."""
        members: dict[str, list[Tensor]] = {}
        for name, areas in self.last.items():
            if (one := family(name)) is not None:
                members.setdefault(one, []).append(areas)
        return {one: torch.stack(areas).mean(dim=0) for one, areas in members.items()}

    def order_found(self) -> str:
        """One sentence: is the order of the families that of the paper?"""
        means = self.family_means()
        found = sorted(means, key=lambda one: -float(means[one].mean()))
        expected = [one for one in FAMILIES if one in means]
        steps = [MeanAndError.of(means[better] - means[worse]) for better, worse in pairwise(found)]
        zs = ", ".join(z_text(step) or "none" for step in steps)
        verdict = "the paper's" if found == expected else f"not the paper's {' > '.join(expected)}"
        return (
            f"Regions of {self.region_size} x {self.region_size}, {self.steps} steps: the order of "
            f"the families, each the mean of its heatmaps, is {verdict}: found was "
            f"{' > '.join(found)}, with z = {zs} between neighbours."
        )

    def ranking_table(self) -> str:
        """Heatmaps from best to worst, each compared with the next and with the random order."""
        rows = []
        following = [*self.ranking[1:], None]
        for name, worse in zip(self.ranking, following, strict=True):
            gain = MeanAndError.of(self.last[name] - self.last[CONTROL])
            row = [name, MeanAndError.of(self.last[name])]
            row += [gain, z_text(gain)] if name != CONTROL else ["", ""]
            lead = MeanAndError.of(self.last[name] - self.last[worse]) if worse else None
            rows.append([*row, *([lead, z_text(lead)] if lead else ["", ""])])
        header = ["heatmap", "AOPC ± SEM", "minus random", "z", "minus the next", "z"]
        return markdown_table(header, rows)

    def pair_table(self) -> str:
        """Paired z of every two heatmaps at the last step, row minus column."""
        names = self.ranking
        rows = [
            [f"{number} {row}"]
            + [z_text(MeanAndError.of(self.last[row] - self.last[column])) for column in names]
            for number, row in enumerate(names, start=1)
        ]
        return markdown_table(["", *(str(n + 1) for n in range(len(names)))], rows)


@dataclass(frozen=True)
class Report:
    """All that is written at the end of a study.

    Attributes:
        title: the images and the network.
        areas: by region size, the main one first.
        reference: name of the heatmap that the appendix's figure is relative to.
        images: for each image what identifies it: row, label, predicted class.
        settings: name and value of each, for people.
        command: that makes the study again.
        image_size: height and width of the images in pixels.
    """

    title: str
    areas: Sequence[Areas]
    reference: str
    images: Sequence[Mapping[str, object]]
    settings: Mapping[str, object]
    command: str
    image_size: int

    def write(self, folder: Path) -> None:
        """Write points.csv, areas.csv, fig4.png, fig8.png and report.md."""
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / "points.csv", self.points())
        write_csv(folder / "areas.csv", self.areas_of_images())
        main = self.areas[0]
        heatmaps = [name for name in main.ranking if name != CONTROL]
        lines_over_steps(
            {_size(main): main.lines(CONTROL, heatmaps)}, "the random order", self.title
        ).savefig(folder / "fig4.png")
        by_size = self._by_size()
        # The reference is the paper's; beside the random order heatmaps could not be told apart.
        others = [name for name in heatmaps if name != self.reference]
        lines_over_steps(
            {_size(areas): areas.lines(self.reference, others) for areas in by_size},
            self.reference,
            self.title,
        ).savefig(folder / "fig8.png")
        (folder / "report.md").write_text(self.text(), encoding="utf-8")

    def _orders_as_in_the_paper(self) -> list[str]:
        """The orders found where no more of the image is perturbed than in the paper."""
        found = []
        for areas in self.areas:
            steps = round(SHARE_OF_THE_PAPER * (self.image_size / areas.region_size) ** 2)
            # Otherwise it would be said twice, or of nothing.
            if 1 <= steps <= areas.steps / 2:
                found.append(f"- {areas.up_to(steps).order_found()}")
        if not found:
            return []
        share = f"{SHARE_OF_THE_PAPER:.1%}"
        return [f"After the paper's share of the image, {share}, is perturbed:", "\n".join(found)]

    def _by_size(self) -> list[Areas]:
        return sorted(self.areas, key=lambda areas: areas.region_size)

    def _claims(self) -> list[str]:
        table = claims_table({areas.region_size: areas.last for areas in self._by_size()})
        if table is None:
            return []
        told = (
            "Each claim is about all pairs of the heatmaps that it names; told is whether it holds "
            f"of all of them, and the least z. Below {CHANCE:g} in size, it is open:"
        )
        return ["## Claims of the paper", told, table]

    def points(self) -> list[dict[str, object]]:
        """AOPC of each heatmap at each step, and its difference from random and the reference."""
        rows: list[dict[str, object]] = []
        for areas in self.areas:
            for name, by_step in areas.by_step.items():
                columns: dict[str, list[float]] = {}
                for key, values in {
                    "aopc": by_step,
                    "minus_random": by_step - areas.by_step[CONTROL],
                    "minus_reference": by_step - areas.by_step[self.reference],
                }.items():
                    mean, sem = mean_and_sem(values)
                    columns |= {key: mean.tolist(), f"{key}_sem": sem.tolist()}
                for step in range(areas.steps):
                    at_step = {key: values[step] for key, values in columns.items()}
                    place = {"region_size": areas.region_size, "step": step + 1, "heatmap": name}
                    rows.append(place | at_step)
        return rows

    def areas_of_images(self) -> list[dict[str, object]]:
        """AOPC at the last step, one row for each image and region size."""
        rows: list[dict[str, object]] = []
        for areas in self.areas:
            values = {name: of_images.tolist() for name, of_images in areas.last.items()}
            for number, image in enumerate(self.images):
                of_image = {name: column[number] for name, column in values.items()}
                rows.append({"region_size": areas.region_size, **image, **of_image})
        return rows

    def text(self) -> str:
        """The report in Markdown."""
        parts = [
            f"# Heatmaps compared by region perturbation: {self.title}",
            "Fig. 4 and 8 of Samek et al. 2017. AOPC is the mean drop of the predicted class's "
            "probability over the steps, most relevant regions first (eq. 12). All differences "
            "are paired, image by image, under the same noise; z is a mean difference in units of "
            "its standard error over images, and below about 2 it tells nothing. `lrp` is "
            "LRP-epsilon with epsilon 0.01.",
            "\n".join(f"- {areas.order_found()}" for areas in self.areas),
            *self._orders_as_in_the_paper(),
            f"![AOPC relative to the random order](fig4.png)\n\n"
            f"![AOPC relative to {self.reference}](fig8.png)",
        ]
        parts += self._claims()
        for areas in self.areas:
            parts += [f"## {_size(areas)}, {areas.steps} steps", areas.ranking_table()]
            parts += ["z of each row minus each column:", areas.pair_table()]
        settings = markdown_table(["setting", "value"], list(self.settings.items()))
        parts += ["## Settings", settings, f"```bash\n{self.command}\n```"]
        return "\n\n".join(parts) + "\n"


def _size(areas: Areas) -> str:
    return f"Regions of {areas.region_size} x {areas.region_size} pixels"
