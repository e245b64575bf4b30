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
    """Waits of a call; on a CPU the operations that would be some on a device."""
    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    synchronize(device)
    with profile(activities=activities) as found:
        run()
    names = ON_CUDA if on_cuda else ELSEWHERE
    counted = sum(event.count for event in found.key_averages() if event.key in names)
    # The profiler itself waits once when it ends.
    return counted - _own_waits(device) if on_cuda else counted


def _own_waits(device: torch.device) -> int:
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        torch.ones(1, device=device)
    return sum(event.count for event in found.key_averages() if event.key in ON_CUDA)
