"""Part 4: where the time of a default evaluation goes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from benchmarks.on_gpu.report import Cell, Table
from benchmarks.on_gpu.rows import Rows, synchronize
from benchmarks.on_gpu.subjects import Scale
from benchmarks.on_gpu.watching import Look

MOST = 10


def profiled(rows: Rows, scale: Scale) -> None:
    """The dearest operations, and for how long the device has nothing to do."""
    on_cuda = scale.device.type == "cuda"
    where = "device" if on_cuda else "CPU"
    times = rows.table("A default evaluation, profiled", ("what", "value"))
    table = rows.table("Its dearest operations", ("operation", f"{where} ms", "share", "calls"))
    idle: list[Cell] = ["not measured"]
    wall = ("wall time in ms, longer than without the profiler",)
    rows.add(times, wall, lambda: [_profile(scale, idle, table)], expected=30.0 * on_cuda)
    rows.add(times, ("share of it with the GPU idle",), lambda: idle, needs_cuda=True)


def _profile(scale: Scale, idle: list[Cell], table: Table) -> float:
    """Wall time; fills in the table, and for which share of it the device is idle."""
    on_cuda, look = scale.device.type == "cuda", Look(scale)
    look()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    synchronize(scale.device)
    with profile(activities=activities) as found:
        began = time.perf_counter()
        look()
        synchronize(scale.device)
        wall = time.perf_counter() - began
    name = "self_device_time_total" if on_cuda else "self_cpu_time_total"
    averages = sorted(found.key_averages(), key=lambda e: -getattr(e, name))
    # Kernels stand beside the operations that started them: one of both is counted.
    kind = DeviceType.CUDA if on_cuda else DeviceType.CPU
    kept = [e for e in averages if e.device_type == kind and not e.is_user_annotation]
    if not kept:
        raise RuntimeError("the profiler sees nothing of the device")
    total = sum(getattr(event, name) for event in kept)
    for event in kept[:MOST]:
        own = getattr(event, name)
        table.rows.append([event.key[:80], own / 1e3, own / max(total, 1), event.count])
    idle[0] = 1 - busy_seconds(found.events() or ()) / wall
    return wall * 1e3


def busy_seconds(events: Iterable[Any]) -> float:
    """Seconds in which the device does something: kernels may overlap.

    Args:
        events: of the profiler, with `device_type`, `is_user_annotation` and a `time_range` in
            microseconds.
    """
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in events
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation
    )
    busy, until = 0.0, float("-inf")
    for start, end in spans:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy / 1e6
