"""The same faults where FSDP2 spreads the network over two processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.integration.faults.fault import COLUMNS, Fault

ONE_PROCESS, *SINGLE, BOTH = COLUMNS
# What is otherwise than under DDP, by the name of the fault.
CHANGES: dict[str, dict[str, Any]] = {
    # Of a distributed tensor this is not what FSDP2 computes with: there is no harm.
    "a heatmap replaces the `data` of a parameter": {
        "failed": (),
        "message": "",
        "leaves": "identical",
    },
}
# One process alone asks the network for more than the others do: they would wait for each other.
OUT_OF_STEP: dict[str, Any] = {
    "message": "OutOfStepError: .* all have to take the same way",
    "is_local": False,
    "ends": "EvaluationError",
    "leaves": "untrained",
}
ASKING = (
    "a heatmap switches to train mode and calls the model",
    "a heatmap calls `backward()`",
)


def under_fsdp2(fault: Fault) -> Iterator[Fault]:
    """A fault, under FSDP2; a network of one process alone is not spread."""
    columns = tuple(column for column in fault.columns if column != ONE_PROCESS)
    name, changes = f"{fault.name}, under FSDP2", CHANGES.get(fault.name, {})
    if fault.name in ASKING:
        alone = f"{fault.name} on one process alone, under FSDP2"
        yield replace(fault, name=alone, columns=tuple(SINGLE), sharded=True, **OUT_OF_STEP)
        columns = (BOTH,)
    yield replace(fault, **{"name": name, "columns": columns, "sharded": True, **changes})
