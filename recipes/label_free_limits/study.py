"""What runs of `label_free_limits` found: how each signal follows accuracy in each regime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from recipes.label_free_limits.following import Following
from recipes.label_free_limits.plan import Group
from recipes.label_free_limits.signals import MAIN, REFERENCES, Signal
from recipes.shared.reporting.markdown import markdown_table
from recipes.shared.reporting.spread import spread
from recipes.shared.training.beside import ACCURACY

ON_TRAINING_IMAGES = "accuracy/train"
# What an overview tells, by the field of `Following`.
STATISTICS = {
    "spearman": "Rank correlation with accuracy over the whole run, mean over seeds",
    "late_spearman": "Rank correlation from the accuracy peak on, mean over seeds",
    "accuracy_lost": "Accuracy lost by choosing the checkpoint by the signal, mean over seeds",
}


@dataclass(frozen=True)
class LimitsRun:
    """One regime, network and seed.

    Attributes:
        seed: of every random choice.
        points: one dict per look: accuracy, the step or the corruption, every signal under its
            name.
        is_training: whether the points follow each other.
    """

    seed: int
    points: Sequence[Mapping[str, float | str]]
    is_training: bool = True

    def column(self, key: str) -> list[float]:
        """One number over all points."""
        return [float(point[key]) for point in self.points]

    def following(self, signal: str) -> Following:
        """How well a signal follows accuracy in this run."""
        return Following.of(self.column(signal), self.column(ACCURACY), self.is_training)


@dataclass(frozen=True)
class LimitsStudy:
    """All runs.

    Attributes:
        title: the image set.
        signals: what is compared with accuracy.
        runs: the runs of each group, one for each seed.
    """

    title: str
    signals: Sequence[Signal]
    runs: Mapping[Group, Sequence[LimitsRun]]

    def followings(self, group: Group, signal: str) -> list[Following]:
        """How well a signal follows accuracy, for each seed."""
        return [run.following(signal) for run in self.runs[group]]

    def values(self, group: Group, signal: str, statistic: str) -> list[float]:
        """One statistic of a signal, for each seed."""
        return [float(vars(found)[statistic]) for found in self.followings(group, signal)]

    def statistics(self) -> list[dict[str, object]]:
        """Rows for `limits.csv`: every statistic of every signal, group and seed."""
        return [
            {
                "regime": group.regime,
                "network": group.network,
                "seed": run.seed,
                "signal": signal.name,
                **vars(run.following(signal.name)),
            }
            for group, runs in self.runs.items()
            for run in runs
            for signal in self.signals
        ]

    def labelled_points(self) -> list[dict[str, object]]:
        """Rows for `points.csv`: every look with its signals."""
        return [
            {"regime": group.regime, "network": group.network, "seed": run.seed, **point}
            for group, runs in self.runs.items()
            for run in runs
            for point in run.points
        ]

    def table(self, group: Group) -> str:
        """One group: a row for each signal, the mean over seeds and the least and the greatest."""
        fields, header = ["spearman"], ["signal", "rank correlation"]
        if group.is_training:
            fields += ["late_spearman", "accuracy_lost"]
            header += ["after the peak", "accuracy lost"]
        rows = [
            [f"`{signal.name}`", *(spread(self.values(group, signal.name, f)) for f in fields)]
            for signal in self.signals
        ]
        return markdown_table(header, rows)

    def overview(self, statistic: str, names: Sequence[str] = MAIN) -> str:
        """A row for each group, a column for each of some signals: means over seeds.

        Args:
            statistic: a key of `STATISTICS`.
            names: of the signals.
        """
        groups = [g for g in self.runs if g.is_training or statistic == "spearman"]
        rows = [
            [
                f"{group.name} ({len(self.runs[group])})",
                *(_mean(self.values(group, name, statistic)) for name in names),
            ]
            for group in groups
        ]
        return markdown_table(["run (seeds)", *(f"`{name}`" for name in names)], rows)

    def accuracies(self, group: Group) -> str:
        """Sentences about how accuracy went, how good the references are, how many points."""
        runs = self.runs[group]
        columns = [run.column(ACCURACY) for run in runs]
        points = _range_of([len(column) for column in columns])
        references = ", ".join(
            f"{spread([float(run.points[0][f'{name}/accuracy']) for run in runs])} by {text}"
            for name, text in REFERENCES.items()
        )
        shares = f"Of the probe are predicted rightly: {references}."
        if not group.is_training:
            least, clean = (spread([of(c) for c in columns]) for of in (min, _first))
            return (
                f"Test accuracy {clean} without corruption, {least} at its worst; {points} points. "
                f"{shares}"
            )
        peak, end = (spread([of(c) for c in columns]) for of in (max, _last))
        late = _range_of([len(column) - column.index(max(column)) for column in columns])
        training = spread([float(run.points[-1][ON_TRAINING_IMAGES]) for run in runs])
        return (
            f"Test accuracy {peak} at its peak, {end} at the end, where {training} of the training "
            f"images are predicted as labelled; {points} points, {late} of them from the peak on. "
            f"{shares}"
        )


def _mean(values: Sequence[float]) -> str:
    known = [value for value in values if value == value]
    # A mean over some of the seeds says how many these are.
    missing = "" if len(known) == len(values) else f" ({len(known)})"
    return f"{fmean(known):.3f}{missing}" if known else ""


def _range_of(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _first(values: Sequence[float]) -> float:
    return values[0]


def _last(values: Sequence[float]) -> float:
    return values[-1]
