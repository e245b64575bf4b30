"""What a curve costs beside its forwards: memory, and waiting for the device."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from aopc_monitor import AOPC, SymmetricRelevanceGain
from aopc_monitor.network.execution import Execution, Room
from benchmarks.memory_use import PeakOfTensors


@pytest.mark.parametrize("batch", [16, 128])
@pytest.mark.parametrize("kind", [AOPC, SymmetricRelevanceGain])
@pytest.mark.parametrize("channels_last", [None, False])
def test_it_takes_little_more_memory_than_the_forward(
    channels_last: bool | None, kind: type[AOPC], batch: int
) -> None:
    """The chunk itself and less than half as much, also for two orders of a batch as large."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(7200, 4)).eval()
    chunk, x = torch.rand(128, 3, 32, 32), torch.rand(batch, 3, 32, 32)
    heatmaps = x[:, 0].clone()
    plain, ours = PeakOfTensors(), PeakOfTensors()
    metric = kind(
        region_size=4, steps=16, data_range=(0.0, 1.0), execution=Execution(128, channels_last)
    )
    metric.update(model, x, heatmaps)  # what is found out once takes memory once
    with torch.no_grad(), plain:
        model(chunk)
    with ours:
        metric.update(model, x, heatmaps)
    assert ours.peak - plain.peak < 1.5 * chunk.numel() * chunk.element_size()


def test_the_room_of_chunks_shrinks_with_them() -> None:
    """Where memory was short, the next try must not hold what the last one asked for."""
    room = Room(torch.rand(2, 3, 4, 4))
    large = room.of(100)
    assert room.of(60).data_ptr() == large.data_ptr()
    assert room.of(40).untyped_storage().nbytes() == 40 * 3 * 4 * 4 * 4


class Operations(TorchDispatchMode):
    """Counts operations by their names."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.name()] += 1
        return func(*args, **(kwargs or {}))


def test_no_chunk_waits_for_the_device() -> None:
    """A number that is read on the host, or places found by a mask, would stop an accelerator."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(784, 3)).eval()
    x, found = torch.rand(4, 3, 16, 16), []
    for chunk_size in (64, 4):
        metric = AOPC(
            region_size=4, steps=16, data_range=(0.0, 1.0), execution=Execution(chunk_size)
        )
        metric.update(model, x, x[:, 0])  # the layout of images is tried once
        with Operations() as operations:
            metric.update(model, x, x[:, 0])
        found.append(operations.counts)
    few, many = found
    forward, waits = "aten::convolution", ("aten::_local_scalar_dense", "aten::nonzero")
    assert (few[forward], many[forward]) == (1 + 1, 1 + 16)
    assert few[waits[0]] > 0
    assert [many[name] for name in waits] == [few[name] for name in waits]
