"""Rows of tables: each on its own, so that one that fails costs no other."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from aopc_monitor.network import is_out_of_memory
from benchmarks.on_gpu.budget import NO_TIME, Budget
from benchmarks.on_gpu.report import NOT_HERE, Cell, Part, Table


@dataclass
class Rows:
    """Fills the tables of a part within its time.

    Attributes:
        part: what they belong to.
        budget: how long there is.
        device: what is measured on.
        save: keeps what there is so far.
    """

    part: Part
    budget: Budget
    device: torch.device
    save: Callable[[], None]
    _longest: dict[str, float] = field(default_factory=dict, repr=False)

    def table(self, title: str, header: Sequence[str], note: str = "") -> Table:
        """Begin a table."""
        table = Table(title, header, note)
        self.part.tables.append(table)
        return table

    def add(
        self,
        table: Table,
        names: Sequence[Cell],
        work: Callable[[], Sequence[Cell]],
        expected: float = 0.0,
        needs_cuda: bool = False,
    ) -> bool:
        """Add a row, or why there is none.

        Args:
            table: where to.
            names: the first cells.
            work: makes the others.
            expected: seconds that it takes on a data-centre GPU, roughly. It must also fit in if
                it takes as long as the longest row of the table so far.
            needs_cuda: whether it is about something that only CUDA devices have.

        Returns:
            Whether it was measured.
        """
        reason, cells, began = "", list[Cell](), time.monotonic()
        if needs_cuda and self.device.type != "cuda":
            reason = NOT_HERE
        elif not self.budget.fits(max(expected, self._longest.get(table.title, 0.0))):
            reason = NO_TIME
        else:
            cells, reason = _worked(work)
        taken = max(self._longest.get(table.title, 0.0), time.monotonic() - began)
        self._longest[table.title] = taken
        missing = len(table.header) - len(names) - len(cells)
        if reason:
            cells = [reason, *[""] * (missing - 1)]
        table.rows.append([*names, *cells])
        self.save()
        return not reason


def _worked(work: Callable[[], Sequence[Cell]]) -> tuple[list[Cell], str]:
    """The cells, or why there are none."""
    try:
        return list(work()), ""
    except ModuleNotFoundError as error:
        return [], f"{error.name} is not installed"
    except Exception as error:  # of any kind: the other rows are still wanted
        reason = "not enough memory" if is_out_of_memory(error) else _first_line(error)
    # Out here, where nothing of the attempt is held by its error any more.
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return [], reason


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"failed: {type(error).__name__}: {lines[0][:160] if lines else ''}"


def seconds_per_call(
    run: Callable[[], object], device: torch.device, at_least: float = 0.0
) -> float:
    """Wall time of a call among many, the first one not counted, until the device is done.

    Args:
        run: what is timed.
        device: what it runs on.
        at_least: seconds; called as often as it takes.
    """
    run()
    synchronize(device)
    count = 1
    while True:
        began = time.perf_counter()
        for _ in range(count):
            run()
        synchronize(device)
        elapsed = max(time.perf_counter() - began, 1e-9)
        if elapsed >= at_least:
            return elapsed / count
        count = max(2 * count, int(1.2 * count * at_least / elapsed) + 1)


def synchronize(device: torch.device) -> None:
    """Wait for a device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
