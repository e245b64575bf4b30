"""What `sensitivity_n` found, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from recipes.sensitivity_n.claims import judged
from recipes.sensitivity_n.figures import correlation_curves
from recipes.sensitivity_n.found import Found
from recipes.sensitivity_n.inputs import Wording
from recipes.shared.reporting.markdown import markdown_table, write_csv

LEGEND = """\
Sensitivity-n (Ancona et al. 2018, section 4): the Pearson correlation, over random subsets of n
{feature}s of each {item}, of their summed relevance with the drop of the logit of the predicted
class when they are {removed}; the mean over {item}s ± its standard error. It is 1 where the
relevance adds up to the drop. Any {item} whose logit was the same for all subsets has no
correlation at this n and is left out. `lrp` is LRP-epsilon with epsilon 0.0001, `occlusion`
occludes single {feature}s, and `random` is the control. `sensitivity_l2` has no sign; the paper's
figure is without it. The sections under "where" were not compared with the paper's text."""


@dataclass(frozen=True)
class Report:
    """Everything that is written.

    Attributes:
        title: the images or texts.
        found: by network.
        settings: of the report.
        command: that made it.
        wording: what things are called.
    """

    title: str
    found: Mapping[str, Found]
    settings: Mapping[str, object]
    command: str
    wording: Wording

    def write(self, folder: Path) -> None:
        """Write report.md, curves.csv, claims.csv and curves.png."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.md").write_text(self.text(), encoding="utf-8")
        write_csv(folder / "curves.csv", self.rows())
        keys = ("claim", "where", "network", "found", "verdict")
        claims = [dict(zip(keys, row, strict=True)) for row in judged(self.found)]
        if claims:
            write_csv(folder / "claims.csv", claims)
        figure = correlation_curves(self.found, self.title, self.wording.feature)
        figure.savefig(folder / "curves.png")

    def rows(self) -> list[dict[str, object]]:
        """One row for each network, method and n."""
        return [
            {
                "network": network,
                "method": method,
                "n": size,
                "correlation": found.at(method, size).mean,
                "sem": found.at(method, size).sem,
            }
            for network, found in self.found.items()
            for method in found.correlations
            for size in found.sizes
        ]

    def text(self) -> str:
        """The report in Markdown."""
        parts = [
            f"# Sensitivity-n: {self.title}",
            f"![Correlation over the number of removed {self.wording.feature}s](curves.png)",
            "## Claims of the paper",
            self.claims(),
            *(self._table(network, found) for network, found in self.found.items()),
            LEGEND.format(**asdict(self.wording)),
            markdown_table(["setting", "value"], list(self.settings.items())),
            f"```bash\n{self.command}\n```",
        ]
        return "\n\n".join(parts) + "\n"

    def claims(self) -> str:
        """The claims, what was found, and whether they hold."""
        rows = judged(self.found)
        if not rows:
            return "None of them is about these networks and methods."
        return markdown_table(["claim", "where", "network", "found", "verdict"], rows)

    def _table(self, network: str, found: Found) -> str:
        first, last = found.sizes[0], found.sizes[-1]
        rows = [
            [f"`{name}`", found.at(name, first), found.at(name, last), found.mean(name)]
            for name in found.correlations
        ]
        header = ["method", f"n = {first}", f"n = {last}", "mean over n"]
        heading = f"## {network}\n\nAccuracy on all test {self.wording.item}s: {found.accuracy:.3f}"
        return f"{heading}\n\n{markdown_table(header, rows)}"
