"""What a failure leads to: a count, and after several in a row the end of what fails."""

from __future__ import annotations

from dataclasses import dataclass

from aopc_monitor.monitor.consensus import Outcome

MOST_IN_A_ROW = 3


@dataclass
class Failures:
    """Counts failures; the same on every process, since all take one decision.

    Attributes:
        total: of this training, runs before a resume included.
        in_a_row: since the last success.
        last_step: where the last one was.
        is_off: whether what fails has been given up.
        task: what fails, for people.
        without: what it then goes on without.
    """

    total: int = 0
    in_a_row: int = 0
    last_step: int = -1
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
        # Once is enough: each further look would change the training again.
        modified = outcome is Outcome.MODEL_MODIFIED
        self.is_off = modified or self.in_a_row >= MOST_IN_A_ROW
        ending = f", from here on without {self.without}" if self.is_off else ""
        return f"could not {self.task} at step {step}; training goes on{ending}. {reason}"
