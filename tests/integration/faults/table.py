"""All faults, in the groups that the page shows."""

from __future__ import annotations

from typing import NamedTuple

from tests.integration.faults.cases_elsewhere import LOGGERS, MISTAKES, OUTSIDE
from tests.integration.faults.cases_from_start import FROM_START
from tests.integration.faults.cases_in_training import IN_TRAINING, SURVIVED
from tests.integration.faults.cases_sharded import under_fsdp2
from tests.integration.faults.fault import Fault
from tests.integration.faults.interruptions import INTERRUPTIONS

GROUPS: dict[str, list[Fault]] = {
    "in mid-training": IN_TRAINING,
    "from the start": FROM_START,
    "not a failure": SURVIVED,
    "loggers": LOGGERS,
    "outside training": OUTSIDE,
    "mistakes": MISTAKES,
}
GROUPS["under FSDP2"] = [
    sharded for group in GROUPS.values() for fault in group for sharded in under_fsdp2(fault)
]
FAULTS: dict[str, Fault] = {fault.name: fault for group in GROUPS.values() for fault in group}


class Case(NamedTuple):
    """A fault, and on which of how many processes it happens."""

    fault: str
    column: str


CASES = [Case(fault.name, column) for fault in FAULTS.values() for column in fault.columns]
CASES += [Case(one.name, column) for one in INTERRUPTIONS.values() for column in one.columns]
ENDURANCE = "300 evaluations in one training"
# Short enough to be run each time in two processes.
REPRESENTATIVE = (
    "the model raises",
    "the heatmap holds NaN",
    "SIGTERM during the heatmap",
    "the model raises, under FSDP2",
    "SIGTERM during the heatmap, under FSDP2",
)
# What is known to be wrong, by the fault and the reason.
DEFECTS: dict[str, str] = {}
