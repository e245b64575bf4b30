"""A training under observation: what is done at its start, at each look, and after a resume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from aopc_monitor.monitor.averaging import CURRENT
from aopc_monitor.monitor.cost import Overhead
from aopc_monitor.monitor.dashboard.dashboard import Dashboard, Found
from aopc_monitor.monitor.errors import tell, warn
from aopc_monitor.monitor.falling_agreement import falling_agreement
from aopc_monitor.monitor.loggers import Keys, publish, remind
from aopc_monitor.monitor.look import Look
from aopc_monitor.monitor.measurement import report_heatmaps
from aopc_monitor.monitor.resuming import Kept, changes
from aopc_monitor.monitor.trainers import callbacks_watching, is_dry_run
from aopc_monitor.network.isolation import fingerprint

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer


class TrainingWatch:
    """A training under observation.

    Args:
        look: how to look at the network.

    Attributes:
        history: one record per evaluation.
    """

    def __init__(self, look: Look) -> None:
        self.history: list[dict[str, float]] = []
        self._look = look
        self._attempts = look.attempts
        self._dashboard = Dashboard(look.settings)
        self._unchecked = ""  # why heatmaps could not be checked, until an evaluation has worked
        self._compared: dict[str, dict[str, Any]] = {}
        self._first_step = 0
        self._measured_weights: tuple[int, ...] = ()
        # Weights that need no evaluation any more at the step of the last one.
        self._known_weights: set[tuple[int, ...]] = set()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, see `Kept`."""
        read_off, failures = self._look.preparation.read_off_range, self._attempts.failures
        return Kept(list(self.history), read_off, self._compared, failures.total).state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with what a checkpoint has kept."""
        kept = Kept.of(state)
        self.history, self._compared = kept.history, kept.settings
        self._look.preparation.read_off_range = kept.data_range
        self._attempts.begin_anew(total=kept.failures)

    def start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        loaders: Any,
        share_of: Callable[[int], float | None],
        was_due: Callable[[int], bool],
        series: str = "",
    ) -> None:
        """Take the probe, and look at the network, or go on with the history of a checkpoint.

        Args:
            trainer: the Lightning trainer.
            pl_module: its module.
            loaders: the trainer's validation loaders.
            share_of: from what an evaluation costs, in forwards, to its share of the training time.
            was_due: whether an evaluation was due after a step, and not after now.
            series: what follows the prefix in the keys of the first look.
        """
        self._look.overhead, self._first_step = Overhead(), trainer.global_step
        before = self._compared
        self._look.begin(pl_module, loaders)
        prepare = partial(self._prepare, share_of=share_of)
        if not self._made_at_start(trainer, pl_module, prepare):
            return
        if self.history:
            self._go_on(trainer, pl_module, before)
            has_all = self._look.keys().are_in(self._last_of(""))
            if has_all and not was_due(int(self.history[-1]["step"])):
                return
        figures = self._dashboard.is_on
        first_look = partial(self._evaluate_and_publish, figures=figures, series=series)
        self._made_at_start(trainer, pl_module, first_look)

    def look(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        figures: bool = False,
        is_last: bool = False,
        series: str = "",
    ) -> None:
        """Evaluate and publish, unless that was done at this step or takes too much of the time.

        Args:
            trainer: the Lightning trainer.
            pl_module: its module.
            figures: whether figures are due, if there are any.
            is_last: whether this is the end of the training, which is always looked at.
            series: what follows the prefix in the keys, for weights that validations do not see.
        """
        figures = figures and self._dashboard.is_on
        done = self._is_done(trainer, pl_module, for_figures=figures)
        figures = figures and not (done and self._dashboard.has_shown(len(self.history)))
        failed = self._attempts.failures.last_step == trainer.global_step  # would fail again
        is_idle = (done and not figures) or (is_dry_run(trainer) and self.history)
        if self._attempts.failures.is_off or failed or is_idle:
            return
        overhead = self._look.overhead
        seconds = 0.0 if done else overhead.last
        # Figures that are too dear do not cost the numbers.
        figures = figures and (
            is_last or self._can_afford(trainer, seconds + overhead.last_figures)
        )
        if not done and (figures or is_last or self._can_afford(trainer, seconds)):
            work = partial(self._evaluate_and_publish, figures=figures, series=series)
            self._attempts.make(trainer, pl_module, work)
        elif figures:
            self._attempts.make(trainer, pl_module, self._show)

    def validation_ended(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Averaged weights were looked at; what is back in place needs no look of its own."""
        if self.history and self.history[-1]["step"] == trainer.global_step:
            self._known_weights.add(fingerprint(pl_module))

    def fit_ended(self, trainer: Trainer, pl_module: LightningModule, who: str) -> None:
        """Say so if other weights were put in place since; the trainer can evaluate no more."""
        if not self.history or self.history[-1]["step"] != trainer.global_step:
            return
        if trainer.is_global_zero and fingerprint(pl_module) != self._measured_weights:
            tell(
                f"the last value, at step {trainer.global_step}, is not of the weights that this "
                f"training leaves: {who} put others in place after it. List AOPCMonitor after that "
                "callback to look at them, or use trainer.validate()"
            )

    def _made_at_start(
        self, trainer: Trainer, pl_module: LightningModule, work: Callable[..., None]
    ) -> bool:
        prefix = f"{self._look.settings.prefix}/"
        waiting = [] if self.history else callbacks_watching(trainer, prefix)
        return self._attempts.make(trainer, pl_module, work, is_start=True, waiting=waiting)

    def _is_done(self, trainer: Trainer, pl_module: LightningModule, for_figures: bool) -> bool:
        if not self.history or self.history[-1]["step"] != trainer.global_step:
            return False
        # Averaging of weights puts others in place between a step and its validation, and perhaps
        # on some process alone: this one cannot know.
        weights = fingerprint(pl_module)
        known = weights in self._known_weights
        if for_figures:  # with the numbers of the very same weights
            known = weights == self._measured_weights
        done: bool = trainer.strategy.reduce_boolean_decision(known, all=True)
        return done

    def _remember_weights(self, pl_module: LightningModule) -> None:
        self._measured_weights = fingerprint(pl_module)
        self._known_weights = {self._measured_weights}

    def _go_on(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        before: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._remember_weights(pl_module)
        # Other callbacks have forgotten the last value; the next one comes when it is due.
        for series in ("", CURRENT):
            keys = self._look.keys(series)
            remind(trainer, keys.public_part(self._last_of(series)), keys.on_progress_bar())
        found = changes(before, self._compared) if before else []
        if found and trainer.is_global_zero:
            warn(
                f"since the checkpoint was written there have changed {'; '.join(found)}. Values "
                f"before and after step {trainer.global_step} do not compare"
            )

    def _last_of(self, series: str) -> dict[str, float]:
        """The last record of a series; empty if there is none."""
        names = self._look.keys(series).on_progress_bar()
        found = (r for r in reversed(self.history) if any(name in r for name in names))
        return next(found, {})

    def _can_afford(self, trainer: Trainer, seconds: float) -> bool:
        limit = self._look.settings.max_overhead
        if limit is None or not self.history:
            return True
        # Clocks differ between processes: one of them decides.
        allows = trainer.strategy.broadcast(self._look.overhead.allows(seconds, limit))
        if not allows:
            self._look.say(
                trainer,
                f"evaluations would take more than {limit:.3g} of the wall time (max_overhead), so "
                "they are made less often than asked for",
            )
        return allows

    def _prepare(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        share_of: Callable[[int], float | None] = lambda cost: None,
    ) -> None:
        look = self._look
        look.prepare(trainer, pl_module)
        self._compared = {name: m.settings() for name, m in look.measurements.items()}
        measurements = list(look.measurements.values())
        cost = sum(measurement.cost for measurement in measurements)
        look.say(trainer, look.plan(share_of(cost)))
        network_of = look.settings.network
        self._unchecked = report_heatmaps(trainer, pl_module, network_of, measurements[0])
        self._dashboard.start(trainer)

    def _evaluate_and_publish(
        self, trainer: Trainer, pl_module: LightningModule, figures: bool, series: str
    ) -> None:
        look = self._look
        if not look.measurements:
            self._prepare(trainer, pl_module)
        look.evaluate(trainer, pl_module, lerf=figures)
        if self._unchecked and trainer.is_global_zero:  # what fails in both is told by the latter
            warn(self._unchecked)
        self._unchecked = ""
        record = look.record(series)
        if trainer.global_step > self._first_step:  # before, there is nothing to compare with
            record[look.key("overhead", series)] = look.overhead.share()
        self.history.append({"step": trainer.global_step, **record})
        self._remember_weights(pl_module)
        keys = look.keys(series)
        publish(trainer, keys.public_part(record), keys.on_progress_bar())
        self._tell_of_falls(trainer, keys)
        if figures:
            self._show(trainer, pl_module)

    def _tell_of_falls(self, trainer: Trainer, keys: Keys) -> None:
        """Say so where this look completes the warning sign of a probe."""
        for probe in keys.compared:
            found = falling_agreement(self.history, keys.prefix, probe, keys.heatmaps[0])
            if found is not None and found.seen is self.history[-1]:
                self._look.say(trainer, found.line())

    def _show(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make figures of what was found at this step."""
        overhead = self._look.overhead
        with overhead.timed_figures():
            self._dashboard.show(
                trainer, pl_module, len(self.history), lambda: self._found(trainer, pl_module)
            )
        seconds = {self._look.key("figures_seconds"): overhead.last_figures}
        self.history[-1].update(seconds)
        publish(trainer, seconds)

    def _found(self, trainer: Trainer, pl_module: LightningModule) -> Found:
        look = self._look
        # A run that resumed at its last look has its numbers, but no evaluation.
        known = look.evaluations.values()
        if not known or not all(evaluation.has_lerf for evaluation in known):
            look.evaluations = look.measured(trainer, pl_module, lerf=True)
        sources = look.preparation.sources
        return Found(sources, look.measurements, look.evaluations, self.history, look.chunks)
