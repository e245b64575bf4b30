"""Doing what may fail so that the training does not, and what failures lead to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aopc_monitor.monitor.errors import EvaluationError, Outcome, tell, text_of, warn
from aopc_monitor.monitor.loggers import publish

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

MOST_IN_A_ROW = 3


@dataclass
class Failures:
    """Counts failures; the same on every process, since all take one decision.

    Attributes:
        total: of this training, runs before a resume included.
        in_a_row: since the last success.
        last_step: where the last one was.
        last_reason: why it was.
        is_off: whether what fails has been given up.
        task: what fails, for people.
        without: what it then goes on without.
    """

    total: int = 0
    in_a_row: int = 0
    last_step: int = -1
    last_reason: str = ""
    is_off: bool = False
    task: str = "evaluate"
    without: str = "the monitor"

    def succeeded(self) -> None:
        """Begin the row anew."""
        self.in_a_row = 0

    def failed(self, step: int, reason: str, outcome: Outcome) -> str:
        """Count one more.

        Returns:
            What to tell people.
        """
        self.total += 1
        self.in_a_row += 1
        self.last_step = step
        self.last_reason = reason
        # Once is enough: each further look would change the training again.
        modified = outcome is Outcome.MODEL_MODIFIED
        self.is_off = modified or self.in_a_row >= MOST_IN_A_ROW
        ending = f", from here on without {self.without}" if self.is_off else ""
        return f"could not {self.task} at step {step}; training goes on{ending}. {reason}"


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
        """Begin another run of the same training, which had so many failures before."""
        self.failures = Failures(total=self.failures.total if total is None else total)

    def make(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        work: Callable[..., None],
        is_start: bool = False,
        waiting: Sequence[str] = (),
    ) -> bool:
        """Do what may fail, and see to it that the training does not.

        What fails before the first step raises: nothing is lost yet, and settings that do not work
        then never will. Only data, memory and numbers may be better the next time, unless callbacks
        wait for a value: they would end the training later, at a validation.

        Args:
            trainer: the Lightning trainer.
            pl_module: its module.
            work: what may fail.
            is_start: whether the training has not begun.
            waiting: callbacks that cannot do without a value.
        """
        try:
            work(trainer, pl_module)
        except Exception as error:  # the same on all processes: what is not comes by `together`
            outcome = getattr(error, "outcome", Outcome.MISCONFIGURED)
            if outcome is Outcome.STOPPED:
                return False
            if self.on_error == "raise" or (is_start and outcome is not Outcome.CIRCUMSTANCES):
                raise
            if waiting:
                raise EvaluationError(
                    f"{', '.join(waiting)} waits for a value, and the first evaluation gave none: "
                    f"{text_of(error)}. Nothing is lost yet: mend it, or take the callback away"
                ) from error
            self._failed(trainer, text_of(error), outcome)
            return False
        self.failures.succeeded()
        return True

    def _failed(self, trainer: Trainer, reason: str, outcome: Outcome) -> None:
        text = self.failures.failed(trainer.global_step, reason, outcome)
        if trainer.is_global_zero:
            warn(text)
            if self.failures.is_off:
                tell(f"switched off at step {trainer.global_step}")
        if trainer.state.fn == "fit":
            publish(trainer, {self.key: float(self.failures.total)})

    def conclude(self, trainer: Trainer) -> None:
        """Tell at the end of a training whether evaluations failed: warnings may be ignored."""
        failures = self.failures
        if failures.total and trainer.is_global_zero:
            last = f", the last at step {failures.last_step}: {failures.last_reason}"
            tell(
                f"{failures.total} evaluations failed in this training"
                f"{last if failures.last_reason else ''}"
            )
