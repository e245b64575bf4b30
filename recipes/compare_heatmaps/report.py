"""What a comparison of heatmaps found: tables, CSV files, figures and the order of the heatmaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from aopc_monitor import MeanAndError
from aopc_monitor.figures import Line
from aopc_monitor.metrics import mean_and_sem
from aopc_monitor.perturbation import Strata
from recipes.compare_heatmaps.areas import CONTROL
from recipes.compare_heatmaps.claims import CHANCE, claims_table
from recipes.compare_heatmaps.family_order import FamilyOrder
from recipes.shared.heatmap_figures import lines_over_steps
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

    def order_found(self) -> str:
        """One sentence: is the order of the families that of the paper?"""
        order = FamilyOrder.of(self.last)
        verdict = "the paper's" if order.is_the_papers else f"not the paper's {order.of_the_paper}"
        return (
            f"Regions of {self.region_size} x {self.region_size}, {self.steps} steps: the order of "
            f"the families, each the mean of its heatmaps, is {verdict}: found was {order.found}, "
            f"with z = {order.zs} between neighbours."
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
        notes: what is to be known of each heatmap on this network.
    """

    title: str
    areas: Sequence[Areas]
    reference: str
    images: Sequence[Mapping[str, object]]
    settings: Mapping[str, object]
    command: str
    image_size: int
    notes: Sequence[str] = ()

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

    def families(self) -> list[str]:
        """The order of the families under each region size, also after the paper's share."""
        orders = [FamilyOrder.of(areas.last) for areas in self._by_size()]
        if len(orders[0].means) < 2:
            return []
        earlier = [self._after_the_papers_share(areas) for areas in self._by_size()]
        header = ["regions", "at the last step", "z between neighbours"]
        if any(map(any, earlier)):
            header += [f"after {SHARE_OF_THE_PAPER:.1%} of the image", "z between neighbours"]
        rows = []
        for areas, last, early in zip(self._by_size(), orders, earlier, strict=True):
            size = f"{areas.region_size} x {areas.region_size}, {areas.steps} steps"
            rows.append([size, last.text, last.zs, *early][: len(header)])
        told = (
            "Each family is the mean of its heatmaps, image by image; the paper finds "
            f"{orders[0].of_the_paper}."
        )
        if any(map(any, earlier)):
            told += (
                f" {SHARE_OF_THE_PAPER:.1%} is the paper's share of perturbed pixels; it is left "
                "out where it is more than half of the steps, or less than one."
            )
        return ["## The order of the families", told, markdown_table(header, rows)]

    def _after_the_papers_share(self, areas: Areas) -> tuple[str, str]:
        """The order and its z; empty where that would be said twice, or of nothing."""
        steps = round(SHARE_OF_THE_PAPER * (self.image_size / areas.region_size) ** 2)
        if not 1 <= steps <= areas.steps / 2:
            return "", ""
        order = FamilyOrder.of(areas.up_to(steps).last)
        return f"{steps} of {areas.steps} steps: {order.text}", order.zs

    def _by_size(self) -> list[Areas]:
        return sorted(self.areas, key=lambda areas: areas.region_size)

    def claims(self) -> list[str]:
        """Which claims of the paper hold, where there are heatmaps that they are about."""
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
            *self.families(),
            f"![AOPC relative to the random order](fig4.png)\n\n"
            f"![AOPC relative to {self.reference}](fig8.png)",
        ]
        parts += self.claims()
        for areas in self.areas:
            parts += [f"## {_size(areas)}, {areas.steps} steps", areas.ranking_table()]
            parts += ["z of each row minus each column:", areas.pair_table()]
        if self.notes:
            told = "What `heatmaps.check` says of each heatmap on a few of these images:"
            parts += ["## The heatmaps on this network", told]
            parts.append("\n".join(f"- {note}" for note in self.notes))
        settings = markdown_table(["setting", "value"], list(self.settings.items()))
        parts += ["## Settings", settings, f"```bash\n{self.command}\n```"]
        return "\n\n".join(parts) + "\n"


def _size(areas: Areas) -> str:
    return f"Regions of {areas.region_size} x {areas.region_size} pixels"
