"""What a signal has to reach to be called good, fixed before the runs, and whether it did."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from recipes.label_free_limits.plan import Group
from recipes.label_free_limits.study import LimitsStudy
from recipes.shared.reporting.markdown import markdown_table
from recipes.shared.reporting.spread import spread


@dataclass(frozen=True)
class Criterion:
    """One bound on the mean over seeds.

    Attributes:
        regime: that it is asked of, with every network.
        statistic: a key of `study.STATISTICS`.
        bound: the least mean that passes; of `accuracy_lost` the greatest.
    """

    regime: str
    statistic: str
    bound: float

    def is_met(self, mean: float) -> bool:
        """Whether a mean passes; no value passes nothing.

        Example:
            >>> Criterion("clean", "accuracy_lost", 0.01).is_met(0.0)
            True
        """
        return mean <= self.bound if self.statistic == "accuracy_lost" else mean >= self.bound


CRITERIA = (
    Criterion("label_noise", "spearman", 0.6),
    Criterion("label_noise", "late_spearman", 0.5),
    Criterion("label_noise", "accuracy_lost", 0.02),
    Criterion("clean", "spearman", 0.95),
    Criterion("clean", "accuracy_lost", 0.01),
    Criterion("corruptions", "spearman", 0.8),
    Criterion("other_corruptions", "spearman", 0.8),
)
_NAMES = {
    "spearman": "rank correlation",
    "late_spearman": "rank correlation after the peak",
    "accuracy_lost": "accuracy lost",
}


def verdicts(study: LimitsStudy, signal: str, beside: str) -> str:
    """A table: what was asked of a signal, what it and another one reached.

    Args:
        study: what was found.
        signal: its name.
        beside: name of the other.
    """
    rows = []
    for criterion in CRITERIA:
        for group in study.runs:
            if group.regime == criterion.regime:
                rows.append(_row(study, criterion, group, signal, beside))
    header = ["run", "statistic", "asked for", f"`{signal}`", "met", f"`{beside}`"]
    return markdown_table(header, rows)


def _row(
    study: LimitsStudy, criterion: Criterion, group: Group, signal: str, beside: str
) -> list[str]:
    found, other = (study.values(group, name, criterion.statistic) for name in (signal, beside))
    known = [value for value in found if value == value]
    met = "yes" if known and criterion.is_met(fmean(known)) else "**no**"
    # A mean over some of the seeds is weaker than what was asked for.
    met += f", on {len(known)} of {len(found)} seeds" if len(known) < len(found) else ""
    sign = "at most" if criterion.statistic == "accuracy_lost" else "at least"
    return [
        group.name,
        _NAMES[criterion.statistic],
        f"{sign} {criterion.bound:g}",
        spread(found),
        met,
        spread(other),
    ]
