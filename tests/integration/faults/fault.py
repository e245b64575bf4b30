"""What is broken, and what has to come of it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.integration.faults.injection import Make

COLUMNS = ("one process", "rank 0", "rank 1", "both ranks")
# On which ranks something is broken.
ARMED = {"one process": {0}, "rank 0": {0}, "rank 1": {1}, "both ranks": {0, 1}}
SAME_EVERYWHERE = ("one process", "both ranks")
FROM_STEP_1, FROM_THE_START = (1, 2, 3), (0, 1, 2)


@dataclass(frozen=True)
class Fault:
    """Something that breaks, as a run of 6 steps with an evaluation at each meets it.

    Attributes:
        name: for people.
        make: what the training is made of.
        failed: steps at which an evaluation fails.
        message: pattern of the error that the warnings, or what is raised, have to name.
        is_local: whether what fails does so on single processes, which are to be named.
        ends: name of the exception that the run has to end with; none if empty.
        entry: method of the trainer.
        leaves: "identical" to a run without the monitor, "untrained", or "anything".
        columns: on which processes it can happen.
        on_loggers: warnings of loggers on each process where it happens.
        has_usual_values: whether what is evaluated is what it is when nothing is broken.
        sharded: whether the network is spread over two processes by FSDP2.
    """

    name: str
    make: Make
    failed: tuple[int, ...] = ()
    message: str = ""
    is_local: bool = True
    ends: str = ""
    entry: str = "fit"
    leaves: str = "identical"
    columns: tuple[str, ...] = COLUMNS
    on_loggers: int = 0
    has_usual_values: bool = True
    sharded: bool = False
