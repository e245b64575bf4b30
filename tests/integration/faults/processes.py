"""One process or two gloo processes that run cases, and are not waited for forever."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests.processes import start

COUNT = 2
# Of a process that waits for the other one, and of each case.
SECONDS_TO_WAIT = 60
SECONDS_TO_START, SECONDS_PER_CASE = 120, 30


@contextmanager
def time_limit(seconds: int = SECONDS_TO_WAIT) -> Iterator[None]:
    """Fails a test of one process that hangs."""

    def stop(*args: Any) -> None:
        pytest.fail(f"no end after {seconds} seconds")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def on_two_processes(
    work: Callable[[int, Any, Path], Any], cases: Sequence[Any], folder: Path
) -> None:
    """Do `work(rank, case, folder)` for each case on both processes; see `result_of`.

    Raises:
        TimeoutError: if they hang.
    """
    context = start(_entry, (work, list(cases), folder), COUNT, join=False)
    deadline = time.monotonic() + SECONDS_TO_START + SECONDS_PER_CASE * len(cases)
    while not context.join(timeout=1):
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()
            raise TimeoutError("the two processes hang")


def result_of(number: int, folder: Path) -> list[Any]:
    """What the work on a case gave on both processes; nothing if it was not finished."""
    paths = [_path(number, rank, folder) for rank in range(COUNT)]
    if not all(path.exists() for path in paths):
        return []
    return [torch.load(path, weights_only=False) for path in paths]


def _entry(rank: int, work: Any, cases: list[Any], folder: Path) -> None:
    torch.set_num_threads(1)
    # By this Lightning knows that the processes are there already.
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0")
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=COUNT,
        timeout=timedelta(seconds=SECONDS_TO_WAIT),
    )
    for number, case in enumerate(cases):
        found = work(rank, case, folder)
        torch.save(found, _path(number, rank, folder))
        # After a hang, what follows on this process would not match the other's.
        dist.barrier()
    dist.destroy_process_group()


def _path(number: int, rank: int, folder: Path) -> Path:
    return folder / f"{number}-{rank}.pt"
