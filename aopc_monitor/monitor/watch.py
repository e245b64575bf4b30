"""What a monitor does at each look: take the probe, evaluate, publish, and survive all of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from aopc_monitor.metrics.evaluation import Evaluation
from aopc_monitor.monitor.cost import Overhead, plan_of
from aopc_monitor.monitor.dashboard.dashboard import Dashboard, Found
from aopc_monitor.monitor.errors import EvaluationError, Outcome, warn
from aopc_monitor.monitor.failures import Attempts
from aopc_monitor.monitor.loggers import Keys, key, publish, record_of, remind
from aopc_monitor.monitor.measurement import (
    Measurement,
    changes,
    evaluate_on_all_processes,
    report_heatmaps,
)
from aopc_monitor.monitor.settings import MonitorSettings, Preparation
from aopc_monitor.network.chunks import ChunkSizesByNetwork
from aopc_monitor.network.isolation import fingerprint


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
        chunk_size = settings.choices.execution.chunk_size
        # Always the same chunks, so that the same network has the same numbers to the last bit.
        self._chunks = ChunkSizesByNetwork(chunk_size, searching=False)
        self._attempts = Attempts(settings.on_error, self._key("failures"))
        self._overhead = Overhead()
        self._dashboard = Dashboard(settings)
        self._first_step = 0
        self._measured_weights: tuple[int, ...] = ()
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
        self.measurements = {}
        self._attempts.begin_anew()
        before = self._compared
        self._preparation.check(pl_module, loaders)
        prepare = partial(self._prepare_training, share_of=share_of)
        if not self._attempts.make(trainer, pl_module, prepare, is_start=True):
            self._attempts.refuse_if_awaited(trainer, self.settings.prefix, self.history)
            return
        if self.history:
            self._go_on(trainer, pl_module, before)
            if self._keys().are_in(self.history[-1]) and not was_due(int(self.history[-1]["step"])):
                return
        first_look = partial(self._evaluate_and_publish, draw=self._dashboard.is_on)
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
        draw = draw and self._dashboard.is_on
        done = self._is_done(trainer, pl_module, to_be_drawn=draw)
        draw = draw and not (done and self._dashboard.has_drawn(len(self.history)))
        failed = self._attempts.failures.last_step == trainer.global_step  # would fail again
        is_idle = (done and not draw) or (trainer.fast_dev_run and self.history)
        if self._attempts.failures.is_off or failed or is_idle:
            return
        seconds = 0.0 if done else self._overhead.last
        # Figures that are too dear do not cost the numbers.
        draw = draw and (
            is_last or self._can_afford(trainer, seconds + self._overhead.last_figures)
        )
        if not done and (draw or is_last or self._can_afford(trainer, seconds)):
            work = partial(self._evaluate_and_publish, draw=draw)
            self._attempts.make(trainer, pl_module, work)
        elif draw:
            self._attempts.make(trainer, pl_module, self._draw)

    def _is_done(self, trainer: Any, pl_module: Any, to_be_drawn: bool) -> bool:
        if not self.history or self.history[-1]["step"] != trainer.global_step:
            return False
        # Averaging of weights puts others in place between a step and its validation; on some
        # process alone, for all that is known here.
        weights = fingerprint(pl_module)
        known = weights in self._known_weights
        if to_be_drawn:  # with the numbers of the very same weights
            known = weights == self._measured_weights
        done: bool = trainer.strategy.reduce_boolean_decision(known, all=True)
        return done

    def validation_ended(self, trainer: Any, pl_module: Any) -> None:
        """Averaged weights were looked at; what is back in place needs no look of its own."""
        if self.history and self.history[-1]["step"] == trainer.global_step:
            self._known_weights.add(fingerprint(pl_module))

    def _remember_weights(self, pl_module: Any) -> None:
        self._measured_weights = fingerprint(pl_module)
        self._known_weights = {self._measured_weights}

    def _go_on(self, trainer: Any, pl_module: Any, before: Mapping[str, Mapping[str, Any]]) -> None:
        self._remember_weights(pl_module)
        keys = self._keys()
        # Other callbacks have forgotten the last value; the next one comes when it is due.
        remind(trainer, keys.public_part(self.history[-1]), keys.on_progress_bar())
        found = changes(before, self._compared) if before else []
        if found and trainer.is_global_zero:
            warn(
                f"since the checkpoint was written there have changed {'; '.join(found)}. Values "
                f"before and after step {trainer.global_step} do not compare"
            )

    def _can_afford(self, trainer: Any, seconds: float) -> bool:
        limit = self.settings.max_overhead
        if limit is None or not self.history:
            return True
        # Clocks differ between processes: one of them decides.
        allows: bool = trainer.strategy.broadcast(self._overhead.allows(seconds, limit))
        if not allows:
            self._say(
                trainer,
                f"evaluations would take more than {limit:.3g} of the wall time (max_overhead), so "
                "they are made less often than asked for",
            )
        return allows

    def _prepare_training(
        self, trainer: Any, pl_module: Any, share_of: Callable[[int], float | None] | None = None
    ) -> None:
        self._prepare(trainer, pl_module)
        self._compared = {name: m.settings() for name, m in self.measurements.items()}
        measurements = list(self.measurements.values())
        cost = sum(measurement.cost for measurement in measurements)
        self._say(trainer, self._plan(share_of(cost) if share_of else None))
        report_heatmaps(trainer, pl_module, self.settings.network, measurements[0])
        self._dashboard.start(trainer)

    def _plan(self, share: float | None = None) -> str:
        read_off = self._preparation.read_off_range is not None
        return plan_of(self.measurements, read_off, share, self.settings.figures)

    def _evaluate_and_publish(self, trainer: Any, pl_module: Any, draw: bool) -> None:
        if not self.measurements:
            self._prepare_training(trainer, pl_module)
        self._evaluate(trainer, pl_module, lerf=draw)
        record = record_of(self.settings.prefix, self.evaluations)
        record[self._key("seconds")] = self._overhead.last
        if trainer.global_step > self._first_step:  # before, there is nothing to compare with
            record[self._key("overhead")] = self._overhead.share()
        self.history.append({"step": trainer.global_step, **record})
        self._remember_weights(pl_module)
        keys = self._keys()
        publish(trainer, keys.public_part(record), keys.on_progress_bar())
        if draw:
            self._draw(trainer, pl_module)

    def _draw(self, trainer: Any, pl_module: Any) -> None:
        """Draw what was found at this step."""
        with self._overhead.drawing():
            self._dashboard.draw(
                trainer, pl_module, len(self.history), lambda: self._found(trainer, pl_module)
            )
        seconds = {self._key("figures_seconds"): self._overhead.last_figures}
        self.history[-1].update(seconds)
        publish(trainer, seconds)

    def _found(self, trainer: Any, pl_module: Any) -> Found:
        if not all(evaluation.has_lerf for evaluation in self.evaluations.values()):
            self.evaluations = self._measured(trainer, pl_module, lerf=True)
        sources, history = self._preparation.sources, self.history
        return Found(sources, self.measurements, self.evaluations, history, self._chunks)

    # In a validation, test or prediction

    def prepare_alone(self, trainer: Any, pl_module: Any, loaders: Any) -> None:
        """Take the probe of a run that is not a training, before it begins."""
        self._attempts.begin_anew()
        self._preparation.check(pl_module, loaders)
        if self._attempts.make(trainer, pl_module, self._prepare, is_start=True):
            self._say(trainer, self._plan())

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
        with self._overhead.timed():
            self.evaluations = self._measured(trainer, pl_module, lerf)

    def _measured(self, trainer: Any, pl_module: Any, lerf: bool) -> dict[str, Evaluation]:
        """Evaluate; where figures are due with the least relevant regions first, too."""
        measurements = {
            name: replace(m, lerf=m.lerf or lerf) for name, m in self.measurements.items()
        }
        found = evaluate_on_all_processes(
            trainer, pl_module, self.settings.network, measurements, self._chunks
        )
        bad = [k for k, value in record_of("", found).items() if not math.isfinite(value)]
        if bad:  # such a number would stop EarlyStopping
            reason = f"{', '.join(bad)} came out NaN or infinite"
            raise EvaluationError(reason, Outcome.CIRCUMSTANCES)
        return found

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
