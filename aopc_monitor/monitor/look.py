"""A look at a network: take the probe, evaluate it, and survive what goes wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aopc_monitor.metrics.evaluation import Evaluation
from aopc_monitor.monitor.cost import Overhead, plan_of
from aopc_monitor.monitor.errors import EvaluationError, Outcome, tell
from aopc_monitor.monitor.failures import Attempts
from aopc_monitor.monitor.loggers import Keys, key, record_of
from aopc_monitor.monitor.measurement import Measurement, evaluate_on_all_processes
from aopc_monitor.monitor.returned import told_of_outputs
from aopc_monitor.monitor.settings import MonitorSettings, Preparation
from aopc_monitor.network.chunks import ChunkSizesByNetwork

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer


class Look:
    """A single look at a network, as a validation, a test or a prediction asks for one.

    A training has many looks, see `TrainingWatch`, which also knows when.

    Attributes:
        settings: what the user gave.
        preparation: where the probes come from.
        measurements: what is measured, by the name of the probe; empty until the probe was taken.
        evaluations: the last evaluation of each probe.
        chunks: images at once. They are always the same, so that the same network has the same
            numbers to the last bit.
        attempts: what may fail, and how often it did.
        overhead: what looks took of the wall time.
    """

    def __init__(self, settings: MonitorSettings) -> None:
        self.settings = settings
        self.preparation = Preparation(settings)
        self.measurements: dict[str, Measurement] = {}
        self.evaluations: dict[str, Evaluation] = {}
        self.chunks = ChunkSizesByNetwork(settings.choices.execution.chunk_size, searching=False)
        self.attempts = Attempts(settings.on_error, self.key("failures"))
        self.overhead = Overhead()
        self._said: set[str] = set()

    def prepare_alone(self, trainer: Trainer, pl_module: LightningModule, loaders: Any) -> None:
        """Take the probe of a run that is not a training, before it begins."""
        self.begin(pl_module, loaders)
        if self.attempts.make(trainer, pl_module, self.prepare, is_start=True):
            self.say(trainer, self.plan())

    def evaluate_alone(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        """Evaluate at the end of such a run: numbers to log, the failures if it failed."""
        if self.measurements and self.attempts.make(trainer, pl_module, self.evaluate):
            return self.keys().public_part(self.record())
        return {self.key("failures"): float(self.attempts.failures.total)}

    def begin(self, pl_module: LightningModule, loaders: Any) -> None:
        """Begin a run.

        Raises:
            ConfigurationError: for a network or loaders that cannot be looked at.
        """
        self.measurements = {}
        self.attempts.begin_anew()
        self.preparation.check(pl_module, loaders)

    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the probe."""
        self.measurements = {}
        measurements = self.preparation.measurements(trainer, pl_module)
        network_of = self.settings.network
        self.measurements = told_of_outputs(trainer, pl_module, network_of, measurements)

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, lerf: bool = False) -> None:
        """Evaluate all probes, and keep what was found; see `measured`."""
        with self.overhead.timed():
            self.evaluations = self.measured(trainer, pl_module, lerf)

    def measured(
        self, trainer: Trainer, pl_module: LightningModule, lerf: bool
    ) -> dict[str, Evaluation]:
        """Evaluations of all probes.

        Args:
            trainer: the Lightning trainer.
            pl_module: its module.
            lerf: whether the least relevant regions are perturbed first, too, as figures show it.

        Raises:
            EvaluationError: on every process, if one failed or a number is not finite.
        """
        measurements = {
            name: replace(m, lerf=m.lerf or lerf) for name, m in self.measurements.items()
        }
        found = evaluate_on_all_processes(
            trainer, pl_module, self.settings.network, measurements, self.chunks
        )
        bad = [k for k, value in record_of("", found).items() if not math.isfinite(value)]
        if bad:  # such a number would stop EarlyStopping
            reason = f"{', '.join(bad)} came out NaN or infinite"
            raise EvaluationError(reason, Outcome.CIRCUMSTANCES)
        return found

    def record(self, series: str = "") -> dict[str, float]:
        """All numbers of the last evaluation under their keys, with its wall time.

        Args:
            series: what follows the prefix in all keys.
        """
        record = record_of(self._prefix(series), self.evaluations)
        record[self.key("seconds", series)] = self.overhead.last
        return record

    def plan(self, share: float | None = None) -> str:
        """What is measured and what it costs, in a line for people."""
        read_off = self.preparation.read_off_range is not None
        return plan_of(self.measurements, read_off, share, self.settings.figures)

    def say(self, trainer: Trainer, line: str) -> None:
        """Tell people a line, once."""
        if trainer.is_global_zero and line not in self._said:
            tell(line)
        self._said.add(line)

    def key(self, kind: str, series: str = "") -> str:
        """What a number of the monitor as a whole is logged under."""
        return key(self._prefix(series), "", kind)

    def keys(self, series: str = "") -> Keys:
        """The keys of all probes and heatmaps."""
        settings = self.settings
        heatmaps, probes = list(settings.heatmaps), list(self.measurements)
        compared = [n for n, m in self.measurements.items() if m.probe.reference is not None]
        return Keys(self._prefix(series), probes, heatmaps, settings.lerf, compared)

    def _prefix(self, series: str) -> str:
        return key(self.settings.prefix, "", series)
