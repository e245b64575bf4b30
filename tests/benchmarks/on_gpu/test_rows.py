"""Rows, tests and times: what is told of each, whatever happens to it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

from benchmarks.on_gpu.budget import NO_TIME, Budget
from benchmarks.on_gpu.profiling import busy_seconds
from benchmarks.on_gpu.report import Cell, Part, Table
from benchmarks.on_gpu.right import HEADER, fill, wait_for
from benchmarks.on_gpu.rows import Rows, seconds_per_call
from benchmarks.on_gpu.subjects import PRECISIONS, QUICK

CPU = torch.device("cpu")


def rows_with(seconds: float) -> tuple[Rows, list[int]]:
    """Rows that may take so many seconds, and how often they were saved."""
    saved: list[int] = []
    part = Part("a part")
    return Rows(part, Budget(time.monotonic(), seconds), CPU, lambda: saved.append(1)), saved


def raising(error: Exception) -> Sequence[Cell]:
    raise error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), "not enough memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "not enough memory"),
        (ModuleNotFoundError("No module named 'quantus'", name="quantus"),
         "quantus is not installed"),
        (ValueError("a line\nand another"), "failed: ValueError: a line"),
        (ValueError(), "failed: ValueError: "),
    ],
)  # fmt: skip
def test_a_row_that_fails_says_why_and_the_next_one_is_made(error: Exception, reason: str) -> None:
    rows, saved = rows_with(60)
    table = rows.table("a table", ("name", "one", "two"))
    assert not rows.add(table, ("first",), lambda: raising(error))
    assert rows.add(table, ("second",), lambda: [1.0, 2])
    assert table.rows == [["first", reason, ""], ["second", 1.0, 2]]
    assert len(saved) == 2
    assert "second" in str(table)


def test_rows_that_no_longer_fit_are_left_out() -> None:
    rows, _ = rows_with(5)
    table = rows.table("a table", ("name", "value"))
    assert rows.add(table, ("short",), lambda: [1], expected=1.0)
    assert not rows.add(table, ("long",), lambda: [2], expected=30.0)
    assert table.rows == [["short", 1], ["long", "left out: no time"]]


def slowly(seconds: float) -> Sequence[Cell]:
    time.sleep(seconds)
    return [1]


def test_rows_as_long_as_the_one_before_must_fit() -> None:
    """On a slower device than was thought of."""
    rows, _ = rows_with(0.3)
    table, other = (rows.table(title, ("name", "value")) for title in ("a table", "another"))
    assert rows.add(table, ("first",), partial(slowly, 0.2))
    assert not rows.add(table, ("second",), lambda: [2])
    assert rows.add(other, ("third",), lambda: [3])


def test_rows_for_cuda_are_not_tried_elsewhere() -> None:
    rows, _ = rows_with(60)
    table = rows.table("a table", ("name", "value"))
    rows.add(table, ("graph",), lambda: raising(AssertionError()), needs_cuda=True)
    assert table.rows == [["graph", "not on this device"]]


def test_tests_without_an_outcome_are_told_too() -> None:
    lines = [
        json.dumps({"tests": ["tests/a.py::one", "tests/a.py::two", "tests/a.py::three"]}),
        json.dumps({"test": "tests/a.py::one", "outcome": "passed", "error": "1e-07",
                    "tolerance": "1e-05", "seconds": 0.1, "reason": ""}),
        json.dumps({"test": "tests/a.py::two", "outcome": "failed", "seconds": 0.2,
                    "reason": "assert 1 <= 0"}),
        '{"test": "tests/a.py::three", "outc',
    ]  # fmt: skip
    table = Table("Tests", HEADER)
    fill(table, lines[:2], "not yet")
    assert [row[1] for row in table.rows] == ["passed", "not run", "not run"]
    fill(table, lines, "left out: no time")
    assert table.rows == [
        ["a.py::one", "passed", "1e-07", "1e-05", 0.1, ""],
        ["a.py::two", "failed", "", "", 0.2, "assert 1 <= 0"],
        ["a.py::three", "not run", "", "", "", "left out: no time"],
    ]
    assert table.note.startswith("1 passed, 1 failed, 1 not run")
    nothing = Table("Tests", HEADER)
    fill(nothing, [], "pytest ended with 4: no such file")
    assert nothing.note.startswith("No test was run: pytest ended with 4")


def test_tests_are_stopped_when_time_is_over() -> None:
    command, told = [sys.executable, "-c", "import time; time.sleep(60)"], list[str]()
    with subprocess.Popen(command) as process:
        assert wait_for(process, Budget(time.monotonic(), 0.5), told.append) == NO_TIME
        assert process.poll() is not None
    assert told == ["not yet"]
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        assert wait_for(process, Budget(time.monotonic(), 60.0), told.append) == ""
        assert process.returncode == 0


def test_a_call_is_timed_among_as_many_as_it_takes() -> None:
    calls = [0]

    def run() -> None:
        calls[0] += 1
        time.sleep(0.001)

    seconds = seconds_per_call(run, CPU, at_least=0.02)
    assert 0.001 <= seconds < 0.02
    assert calls[0] > 3
    calls[0] = 0
    seconds_per_call(run, CPU)
    assert calls[0] == 2


def event(start: float, end: float, device: DeviceType, annotation: bool = False) -> object:
    return SimpleNamespace(
        time_range=SimpleNamespace(start=start, end=end),
        device_type=device,
        is_user_annotation=annotation,
    )


def test_kernels_that_overlap_are_counted_once() -> None:
    on_device, elsewhere = DeviceType.CUDA, DeviceType.CPU
    events = [
        event(10, 20, on_device),
        event(0, 4, on_device),
        event(15, 30, on_device),
        event(16, 18, on_device),
        event(0, 1000, elsewhere),
        event(0, 1000, on_device, annotation=True),
    ]
    assert busy_seconds(events) == pytest.approx(24e-6)
    assert busy_seconds([]) == 0


def test_precisions_leave_the_flags_as_they_were() -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    with PRECISIONS["TF32"].set():
        assert (matmul.allow_tf32, cudnn.allow_tf32) == (True, True)
        with PRECISIONS["float32"].set():
            assert (matmul.allow_tf32, cudnn.allow_tf32) == (False, False)
        assert (matmul.allow_tf32, cudnn.allow_tf32) == (True, True)
    assert (matmul.allow_tf32, cudnn.allow_tf32) == before


@pytest.mark.parametrize("channels_last", [False, True])
def test_networks_and_images_are_the_same_in_both_layouts(channels_last: bool) -> None:
    subject = QUICK[0]
    plain, laid_out = subject.model(CPU), subject.model(CPU, channels_last)
    images = subject.some_images(2, CPU, channels_last)
    assert torch.equal(images, subject.some_images(2, CPU))
    assert images.is_contiguous(memory_format=torch.channels_last) == channels_last
    torch.testing.assert_close(laid_out(images), plain(images))
