"""Memory that is short for a while, and memory that must not be used up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.integration.faults.endurance import EVALUATIONS, STATM
from tests.integration.faults.injection import Injection
from tests.integration.faults.table import ENDURANCE, FAULTS
from tests.integration.faults.training import run

ROOT = Path(__file__).parents[3]
MOST_MEGABYTES = 5.0


@pytest.mark.parametrize(
    "name",
    [
        "out of memory in the model with more than 5 images at once",
        "no memory on the CPU for the heatmap of more than 5 images at once",
    ],
)
def test_a_size_that_was_too_large_is_tried_once(name: str, tmp_path: Path) -> None:
    seen = run(FAULTS[name].make(True), tmp_path)
    # From 16 images over 8 to 4, and that in the first evaluation only.
    assert seen.notes == {0: 2}
    assert seen.warnings == []


def test_a_shortage_that_passes_does_not_slow_down_what_follows(tmp_path: Path) -> None:
    largest: Counter[int] = Counter()

    def act(module: Any, outputs: Tensor) -> Tensor:
        step = module.trainer.global_step
        largest[step] = max(largest[step], len(outputs))
        if step == 2:
            raise torch.OutOfMemoryError("CUDA out of memory, whatever the size")
        return outputs

    seen = run(Injection(disturb=act), tmp_path)
    assert len(seen.warnings) == 1
    assert largest[3] == largest[1]


def test_a_probe_without_labels_has_no_accuracy(tmp_path: Path) -> None:
    fault = FAULTS["a loader without labels"]
    for armed in (True, False):
        records = run(fault.make(armed), tmp_path).histories["aopc"]
        assert all(("aopc/accuracy" in record) != armed for record in records)


@pytest.mark.full
@pytest.mark.skipif(not STATM.exists(), reason="/proc tells how much memory a process has")
def test_hundreds_of_evaluations_add_next_to_no_memory(
    record_property: Callable[[str, object], None],
) -> None:
    record_property("fault", ENDURANCE)
    record_property("column", "one process")
    command = [sys.executable, "-m", "tests.integration.faults.endurance"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    found = json.loads(done.stdout.splitlines()[-1])
    record_property("result", f"{found['megabytes']:.1f} MB more memory")
    assert found["evaluations"] > EVALUATIONS
    assert found["megabytes"] < MOST_MEGABYTES
