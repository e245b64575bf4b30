"""Part 1: whether the device finds what the CPU finds, by the tests that are marked `gpu`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.on_gpu.budget import NO_TIME, Budget
from benchmarks.on_gpu.report import Cell, Table
from benchmarks.on_gpu.rows import Rows
from benchmarks.on_gpu.subjects import Scale

ROOT = Path(__file__).parent.parent.parent
ALSO_MARKED = (
    "tests/metrics/functional/test_complexity.py",
    "tests/metrics/functional/test_sensitivity_n.py",
)
# On a CPU each is compared with itself: with --quick only what stands for the others.
QUICK = (
    "(test_curves and float32) or test_noise or test_short_memory or test_nothing or lrp-float32"
)
SECONDS_BETWEEN = 5.0
NOTE = "Errors are largest differences, or shares of a norm."
HEADER = ("test", "outcome", "error", "tolerance", "seconds", "reason")


def right(rows: Rows, scale: Scale) -> None:
    """Run the tests in a process of their own, for as long as there is time."""
    table = rows.table("Tests", HEADER)
    with tempfile.TemporaryDirectory() as folder:
        outcomes, printed = Path(folder) / "outcomes", Path(folder) / "printed"
        outcomes.touch()

        def tell(ended: str) -> None:
            fill(table, outcomes.read_text().splitlines(), ended)
            rows.save()

        with printed.open("w") as output:
            process = subprocess.Popen(
                command(scale, outcomes),
                cwd=ROOT,
                env={**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        ended = wait_for(process, rows.budget, tell)
        tell(ended or f"pytest ended with {process.returncode}: {printed.read_text()[-300:]}")


def wait_for(process: subprocess.Popen[bytes], budget: Budget, tell: Callable[[str], None]) -> str:
    """Wait for the tests, and stop them when time is over.

    Args:
        process: runs them.
        budget: how long there is.
        tell: keeps what is known so far, and why the others have no outcome.

    Returns:
        Why they were stopped; nothing if they were not.
    """
    try:
        while budget.left > 0:
            try:
                process.wait(timeout=min(SECONDS_BETWEEN, max(budget.left, 0.1)))
                return ""
            except subprocess.TimeoutExpired:
                tell("not yet")
        return NO_TIME
    finally:
        process.kill()
        process.wait()


def command(scale: Scale, file: Path) -> list[str]:
    """How the tests are run: on a CPU those that compare it with itself."""
    on_cuda = scale.device.type == "cuda"
    chosen = ["-k", QUICK] if scale.quick and not on_cuda else []
    return [
        *(sys.executable, "-m", "benchmarks.on_gpu.outcomes", str(file)),
        *("-q", "-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider"),
        *("-m", "gpu" if on_cuda else "not gpu", *chosen, "tests/gpu"),
        *(ALSO_MARKED if on_cuda else ()),
    ]


def fill(table: Table, lines: list[str], ended: str) -> None:
    """Fill the table anew from what the tests have written.

    Args:
        table: where to.
        lines: of JSON; the last one may be cut off.
        ended: how the process ended, for tests that have no outcome.
    """
    wanted: list[str] = []
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        try:
            content = json.loads(line)
        except json.JSONDecodeError:
            continue
        wanted += content.get("tests", [])
        if "test" in content:
            found[content["test"]] = content
    table.rows = []
    for test in dict.fromkeys([*wanted, *found]):
        known = found.get(test, {"outcome": "not run", "reason": ended})
        cells: list[Cell] = [known.get(key, "") for key in HEADER[1:]]
        table.rows.append([test.removeprefix("tests/"), *cells])
    outcomes = [row[1] for row in table.rows]
    counts = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in dict.fromkeys(outcomes))
    table.note = f"{counts or f'No test was run: {ended}'}. {NOTE}"
