"""What runs of `label_free_limits` found: how each signal follows accuracy in each regime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recipes.label_free_limits.agreement import Agreement
from recipes.label_free_limits.corruption_looks import NAMES
from recipes.label_free_limits.regimes import REGIMES
from recipes.label_free_limits.signals import Signal
from recipes.shared.reporting.markdown import markdown_table
from recipes.shared.reporting.spread import spread
from recipes.shared.training.beside import ACCURACY

CORRUPTED = "corruptions"
TITLES = {name: regime.title for name, regime in REGIMES.items()} | {
    CORRUPTED: "corrupted test images, network of the clean training"
}


@dataclass(frozen=True)
class LimitsRun:
    """One regime and seed.

    Attributes:
        regime: a key of `TITLES`.
        seed: of every random choice.
        points: one dict per look, or per condition of the corrupted test images.
    """

    regime: str
    seed: int
    points: Sequence[Mapping[str, float]]

    def column(self, key: str) -> list[float]:
        """One number over all points."""
        return [point[key] for point in self.points]

    def values(self, signal: Signal) -> list[float]:
        """A signal over all points."""
        return [signal.of(point) for point in self.points]

    def agreement(self, signal: Signal) -> Agreement:
        """How well a signal follows accuracy in this run."""
        is_training = self.regime != CORRUPTED
        return Agreement.of(self.values(signal), self.column(ACCURACY), is_training)


@dataclass(frozen=True)
class LimitsStudy:
    """All runs.

    Attributes:
        title: the image set.
        heatmaps: names of the heatmaps.
        signals: what is compared with accuracy.
        runs: one for each regime and seed.
    """

    title: str
    heatmaps: Sequence[str]
    signals: Sequence[Signal]
    runs: Sequence[LimitsRun]

    def of_regime(self) -> dict[str, list[LimitsRun]]:
        """The runs by regime."""
        names = dict.fromkeys(run.regime for run in self.runs)
        return {name: [run for run in self.runs if run.regime == name] for name in names}

    def agreements(self, regime: str, signal: Signal) -> list[Agreement]:
        """How well a signal follows accuracy, for each seed."""
        return [run.agreement(signal) for run in self.of_regime()[regime]]

    def statistics(self) -> list[dict[str, object]]:
        """Rows for `limits.csv`: every statistic of every signal, regime and seed."""
        return [
            {
                "regime": run.regime,
                "seed": run.seed,
                "signal": signal.name,
                **vars(run.agreement(signal)),
            }
            for run in self.runs
            for signal in self.signals
        ]

    def labelled_points(self) -> list[dict[str, object]]:
        """Rows for `points.csv`: every point with its signals; empty where a regime has no such."""
        rows: list[dict[str, object]] = [
            {
                "regime": run.regime,
                "seed": run.seed,
                "corruption": NAMES[int(point.get("corruption", 0))],
                **{key: value for key, value in point.items() if key != "corruption"},
                **{f"signal/{signal.name}": signal.of(point) for signal in self.signals},
            }
            for run in self.runs
            for point in run.points
        ]
        keys = dict.fromkeys(key for row in rows for key in row)
        return [{key: row.get(key, "") for key in keys} for row in rows]

    def table(self, regime: str, signals: Sequence[Signal]) -> str:
        """One regime: a row for each signal, the mean over seeds and the least and the greatest."""
        fields = ["pearson", "spearman"]
        header = ["signal", "Pearson", "Spearman"]
        if regime != CORRUPTED:
            fields += ["late_pearson", "late_spearman", "accuracy_lost"]
            header += ["Pearson after the peak", "Spearman after the peak", "accuracy lost"]
        rows = []
        for signal in signals:
            found = self.agreements(regime, signal)
            rows.append(
                [f"`{signal.name}`", *(spread([vars(a)[f] for a in found]) for f in fields)]
            )
        return markdown_table(header, rows)

    def accuracies(self, regime: str) -> str:
        """A sentence about how accuracy went, and how many points there are."""
        runs = self.of_regime()[regime]
        columns = [run.column(ACCURACY) for run in runs]
        points = _range_of([len(column) for column in columns])
        if regime == CORRUPTED:
            least, clean = (spread([of(c) for c in columns]) for of in (min, _first))
            return (
                f"Test accuracy {clean} without corruption, {least} at its worst; {points} points."
            )
        peak, end = (spread([of(c) for c in columns]) for of in (max, _last))
        late = _range_of([len(column) - column.index(max(column)) for column in columns])
        training = spread([run.points[-1]["aopc/train/accuracy"] for run in runs])
        return (
            f"Test accuracy {peak} at its peak, {end} at the end, where {training} of the training "
            f"probe are predicted as labelled; {points} points, {late} of them from the peak on."
        )


def _range_of(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _first(values: Sequence[float]) -> float:
    return values[0]


def _last(values: Sequence[float]) -> float:
    return values[-1]
