"""How often the host waits for a device, as the profiler sees it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.on_gpu.rows import synchronize

ON_CUDA = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
# What would be a wait on a device: numbers that are read, and places found by a mask.
ELSEWHERE = ("aten::_local_scalar_dense", "aten::nonzero")


def waits_of(run: Callable[[], object], device: torch.device) -> int:
    """Waits of a call; on a CPU the operations that would be some on a device.

    Raises:
        RuntimeError: if the profiler knows nothing of the CUDA device.
    """
    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    synchronize(device)
    with profile(activities=activities) as found:
        run()
    counts = {event.key: event.count for event in found.key_averages()}
    if on_cuda and not any(name.startswith("cuda") for name in counts):
        raise RuntimeError("the profiler sees nothing of the device")
    return sum(counts.get(name, 0) for name in (ON_CUDA if on_cuda else ELSEWHERE))
