"""What a monitor does at each look: take the probe, evaluate, publish, and survive all of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from aopc_monitor.evaluation import Evaluation
from aopc_monitor.isolation import fingerprint
from aopc_monitor.memory import ChunkSizes
from aopc_monitor.monitor.attempts import Attempts
from aopc_monitor.monitor.dashboard import Dashboard, Found
from aopc_monitor.monitor.loggers import Keys, key, publish, record_of, remind
from aopc_monitor.monitor.measurement import (
    Measurement,
    evaluate_on_all_processes,
    preflight,
)
from aopc_monitor.monitor.messages import warn
from aopc_monitor.monitor.overhead import Overhead
from aopc_monitor.monitor.preparation import Preparation
from aopc_monitor.monitor.preview import plan_of
from aopc_monitor.monitor.processes import EvaluationError, Outcome
from aopc_monitor.monitor.resuming import changes
from aopc_monitor.monitor.settings import MonitorSettings


class Watch:
    """A training under observation.

    Attributes:
        history: one record per evaluation.
        measurements: what is measured, by the name of the probe; empty until the probe was taken.
        evaluations: the last evaluation of each probe.
    """

    def __init__(self, settings: MonitorSettings) -> None:
        self.settings = settings
        self.history: list[dict[str, float]] = []
        self.measurements: dict[str, Measurement] = {}
        self.evaluations: dict[str, Evaluation] = {}
        self._preparation = Preparation(settings)
        self._compared: dict[str, dict[str, Any]] = {}
        self._chunks = ChunkSizes.of(settings.choices["chunk_size"])
        self._attempts = Attempts(settings.on_error, self._key("failures"))
        self._overhead = Overhead()
        self._dashboard = Dashboard(settings)
        self._first_step = 0
        # Those that need no evaluation any more at the step of the last one.
        self._known_weights: set[tuple[int, ...]] = set()
        self._said: set[str] = set()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: texts, numbers, and lists and dicts of them."""
        return {
            "history": list(self.history),
            "data_range": self._preparation.read_off_range,
            "settings": self._compared,
            "failures": self._attempts.failures.total,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with what a checkpoint has kept."""
        self.history = list(state["history"])
        self._preparation.read_off_range = state["data_range"]
        self._compared = dict(state["settings"])
        self._attempts.begin_anew(total=state["failures"])

    # In a training

    def start(
        self,
        trainer: Any,
        pl_module: Any,
        loaders: Any,
        share_of: Callable[[int], float | None],
        was_due: Callable[[int], bool],
    ) -> None:
        """Take the probe, and look at the network, or go on with the history of a checkpoint.

        Args:
            trainer: the Lightning trainer.
            pl_module: its module.
            loaders: the trainer's validation loaders.
            share_of: from what an evaluation costs, in forwards, to its share of the training time.
            was_due: whether an evaluation was due after a step, and not after now.
        """
        self._overhead, self._first_step = Overhead(), trainer.global_step
        self._attempts.begin_anew()
        before = self._compared
        self._preparation.check(pl_module, loaders)
        if not self._attempts.make(trainer, pl_module, self._prepare_training, is_start=True):
            self._attempts.refuse_if_awaited(trainer, self.settings.prefix, self.history)
            return
        measurements = list(self.measurements.values())
        share = share_of(sum(measurement.cost for measurement in measurements))
        self._say(
            trainer, plan_of(self.measurements, self._preparation.read_off_range is not None, share)
        )
        preflight(trainer, pl_module, self.settings.network, measurements[0])
        self._dashboard.start(trainer, list(self.measurements))
        if self.history:
            self._go_on(trainer, pl_module, before)
            if self._keys().are_in(self.history[-1]) and not was_due(int(self.history[-1]["step"])):
                return
        first_look = partial(self._evaluate_and_publish, draw=self._may_draw(trainer))
        if not self._attempts.make(trainer, pl_module, first_look, is_start=True):
            self._attempts.refuse_if_awaited(trainer, self.settings.prefix, self.history)

    def look(self, trainer: Any, pl_module: Any, draw: bool = False, is_last: bool = False) -> None:
        """Evaluate and publish, unless that was done at this step or takes too much of the time.

        Args:
            trainer: the Lightning trainer.
            pl_module: its module.
            draw: whether figures are due, if there are any.
            is_last: whether this is the end of the training, which is always looked at.
        """
        done = self._is_done(trainer, pl_module)
        draw = draw and self._may_draw(trainer)
        failed = self._attempts.failures.last_step == trainer.global_step  # would fail again
        is_idle = (done and not draw) or (trainer.fast_dev_run and self.history)
        if self._attempts.failures.is_off or failed or is_idle:
            return
        if is_last or self._can_afford(trainer):
            work = self._draw if done else partial(self._evaluate_and_publish, draw=draw)
            self._attempts.make(trainer, pl_module, work)

    def _is_done(self, trainer: Any, pl_module: Any) -> bool:
        if not self.history or self.history[-1]["step"] != trainer.global_step:
            return False
        # Averaging of weights puts others in place between a step and its validation; on some
        # process alone, for all that is known here.
        known = fingerprint(pl_module) in self._known_weights
        done: bool = trainer.strategy.reduce_boolean_decision(known, all=True)
        return done

    def _may_draw(self, trainer: Any) -> bool:
        return self._dashboard.may_draw(trainer.global_step)

    def validation_ended(self, trainer: Any, pl_module: Any) -> None:
        """Averaged weights were looked at; what is back in place needs no look of its own."""
        if self.history and self.history[-1]["step"] == trainer.global_step:
            self._known_weights.add(fingerprint(pl_module))

    def _go_on(self, trainer: Any, pl_module: Any, before: Mapping[str, Mapping[str, Any]]) -> None:
        self._known_weights = {fingerprint(pl_module)}
        keys = self._keys()
        # Other callbacks have forgotten the last value; the next one comes when it is due.
        remind(trainer, keys.public_part(self.history[-1]), keys.on_progress_bar())
        found = changes(before, self._compared) if before else []
        if found and trainer.is_global_zero:
            warn(
                f"since the checkpoint was written there have changed {'; '.join(found)}. Values "
                f"before and after step {trainer.global_step} do not compare"
            )

    def _can_afford(self, trainer: Any) -> bool:
        limit = self.settings.max_overhead
        if limit is None or not self.history:
            return True
        # Clocks differ between processes: one of them decides.
        allows: bool = trainer.strategy.broadcast(self._overhead.allows_another(limit))
        if not allows:
            self._say(
                trainer,
                f"evaluations would take more than {limit:.3g} of the wall time (max_overhead), so "
                "they are made less often than asked for",
            )
        return allows

    def _prepare_training(self, trainer: Any, pl_module: Any) -> None:
        self._prepare(trainer, pl_module)
        self._compared = {name: m.settings() for name, m in self.measurements.items()}

    def _evaluate_and_publish(self, trainer: Any, pl_module: Any, draw: bool) -> None:
        if not self.measurements:
            self._prepare_training(trainer, pl_module)
        self._evaluate(trainer, pl_module, lerf=draw)
        record = record_of(self.settings.prefix, self.evaluations)
        record[self._key("seconds")] = self._overhead.last
        if trainer.global_step > self._first_step:  # before, there is nothing to compare with
            record[self._key("overhead")] = self._overhead.share()
        self.history.append({"step": trainer.global_step, **record})
        self._known_weights = {fingerprint(pl_module)}
        keys = self._keys()
        publish(trainer, keys.public_part(record), keys.on_progress_bar())
        if draw:
            self._draw(trainer, pl_module)

    def _draw(self, trainer: Any, pl_module: Any) -> None:
        """Draw what was found at this step."""
        if not all(evaluation.has_lerf for evaluation in self.evaluations.values()):
            self._evaluate(trainer, pl_module, lerf=True)
        before = self._overhead.last
        with self._overhead.extended():
            found = Found(
                self._preparation.sources,
                self.measurements,
                self.evaluations,
                self.history,
                self._chunks,
            )
            self._dashboard.draw(trainer, pl_module, found)
        seconds = {self._key("figures_seconds"): self._overhead.last - before}
        self.history[-1].update(seconds)
        publish(trainer, seconds)

    # In a validation, test or prediction

    def prepare_alone(self, trainer: Any, pl_module: Any, loaders: Any) -> None:
        """Take the probe of a run that is not a training, before it begins."""
        self._attempts.begin_anew()
        self._preparation.check(pl_module, loaders)
        if self._attempts.make(trainer, pl_module, self._prepare, is_start=True):
            self._say(
                trainer, plan_of(self.measurements, self._preparation.read_off_range is not None)
            )

    def evaluate_alone(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        """Evaluate at the end of such a run: numbers to log, the failures if it failed."""
        if self.measurements and self._attempts.make(trainer, pl_module, self._evaluate):
            record = record_of(self.settings.prefix, self.evaluations)
            record[self._key("seconds")] = self._overhead.last
            return self._keys().public_part(record)
        return {self._key("failures"): float(self._attempts.failures.total)}

    # What both share

    def _prepare(self, trainer: Any, pl_module: Any) -> None:
        self.measurements = {}
        self.measurements = self._preparation.measurements(trainer, pl_module)

    def _evaluate(self, trainer: Any, pl_module: Any, lerf: bool = False) -> None:
        """Evaluate; where figures are due with the least relevant regions first, too."""
        measurements = {
            name: replace(m, lerf=m.lerf or lerf) for name, m in self.measurements.items()
        }
        with self._overhead.timed():
            found = evaluate_on_all_processes(
                trainer, pl_module, self.settings.network, measurements, self._chunks
            )
        bad = [k for k, value in record_of("", found).items() if not math.isfinite(value)]
        if bad:  # such a number would stop EarlyStopping
            reason = f"{', '.join(bad)} came out NaN or infinite"
            raise EvaluationError(reason, Outcome.CIRCUMSTANCES)
        self.evaluations = found

    def _say(self, trainer: Any, line: str) -> None:
        """Print a line, once."""
        if trainer.is_global_zero and line not in self._said:
            print(f"AOPCMonitor: {line}")
        self._said.add(line)

    def _key(self, kind: str) -> str:
        return key(self.settings.prefix, "", kind)

    def _keys(self) -> Keys:
        settings = self.settings
        heatmaps = list(settings.heatmaps)
        return Keys(settings.prefix, list(self.measurements), heatmaps, settings.lerf)
