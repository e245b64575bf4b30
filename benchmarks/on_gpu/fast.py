"""Part 2: how fast it is."""

from __future__ import annotations

from benchmarks.on_gpu.curves import curves, ways
from benchmarks.on_gpu.rows import Rows
from benchmarks.on_gpu.subjects import Scale
from benchmarks.on_gpu.watching import (
    of_heatmaps,
    of_the_monitor,
    of_training,
    of_waits,
)


def fast(rows: Rows, scale: Scale) -> None:
    """All tables, what takes longest to set up last."""
    for tables in (of_the_monitor, of_training, of_waits, of_heatmaps, curves, ways):
        tables(rows, scale)
