"""Doing what may fail, and seeing to it that the training does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aopc_monitor.monitor.consensus import EvaluationError, Outcome, text_of
from aopc_monitor.monitor.errors import warn
from aopc_monitor.monitor.failures import Failures
from aopc_monitor.monitor.loggers import publish
from aopc_monitor.monitor.trainers import callbacks_watching


class Attempts:
    """Attempts at an evaluation, and how they went.

    Attributes:
        on_error: "warn" or "raise".
        key: what failures are logged under.
        failures: how many there were.
    """

    def __init__(self, on_error: str, key: str) -> None:
        self.on_error = on_error
        self.key = key
        self.failures = Failures()

    def begin_anew(self, total: int | None = None) -> None:
        """For another run of the same training, which had so many failures before."""
        self.failures = Failures(total=self.failures.total if total is None else total)

    def make(
        self, trainer: Any, pl_module: Any, work: Callable[..., None], is_start: bool = False
    ) -> bool:
        """Do what may fail, and see to it that the training does not.

        What fails before the first step raises: nothing is lost yet, and settings that do not work
        then never will. Only data, memory and numbers may be better the next time.
        """
        try:
            work(trainer, pl_module)
        except Exception as error:  # the same on all processes: what is not comes by `together`
            outcome = getattr(error, "outcome", Outcome.MISCONFIGURED)
            if outcome is Outcome.STOPPED:
                return False
            if self.on_error == "raise" or (is_start and outcome is not Outcome.CIRCUMSTANCES):
                raise
            self._failed(trainer, text_of(error), outcome)
            return False
        self.failures.succeeded()
        return True

    def _failed(self, trainer: Any, reason: str, outcome: Outcome) -> None:
        text = self.failures.failed(trainer.global_step, reason, outcome)
        if trainer.is_global_zero:
            warn(text)
        if trainer.state.fn == "fit":
            publish(trainer, {self.key: float(self.failures.total)})

    def refuse_if_awaited(self, trainer: Any, prefix: str, history: Sequence[Any]) -> None:
        """Raise if callbacks wait for a value: they would end the training later, at a validation.

        Args:
            trainer: the Lightning trainer.
            prefix: first part of the monitor's keys.
            history: the values that there are.
        """
        waiting = callbacks_watching(trainer, f"{prefix}/")
        if waiting and not history and self.failures.in_a_row:
            raise EvaluationError(
                f"{', '.join(waiting)} waits for a value, and the first evaluation gave none (see "
                "the warning before this). Nothing is lost yet: mend it, or take the callback away"
            )
