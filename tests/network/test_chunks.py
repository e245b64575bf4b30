from __future__ import annotations

import os
import pickle
import platform
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aopc_monitor import AOPC, area_over_perturbation_curve
from aopc_monitor.network.chunks import (
    ChunkSize,
    ChunkSizes,
    ChunkSizesByNetwork,
    NotEnoughMemoryError,
    in_chunks,
    is_out_of_memory,
)
from aopc_monitor.network.execution import Execution
from tests.modules import small_network


class Tally:
    """Not a number on the model itself, which would be put back after each look."""

    def __init__(self) -> None:
        self.count = 0


class Limited(torch.nn.Module):
    """A network that does not fit more images than its limit, and counts how often it did not."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.network, self.limit, self.refused = small_network(), limit, Tally()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.limit:
            self.refused.count += 1
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes")
        outputs: torch.Tensor = self.network(images)
        return outputs


@given(total=st.integers(0, 50), limit=st.integers(1, 20), size=st.integers(1, 40))
def test_everything_is_done_once_in_order_within_the_limit(
    total: int, limit: int, size: int
) -> None:
    done: list[int] = []

    def work(start: int, end: int) -> None:
        if end - start > limit:
            raise MemoryError
        done.extend(range(start, end))

    chunk_size = ChunkSize(size)
    in_chunks(total, chunk_size, work)
    assert done == list(range(total))
    assert 1 <= chunk_size.size <= size
    assert chunk_size.size <= limit or total <= limit


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory")])
def test_memory_that_does_not_suffice_for_one_is_an_error(error: Exception) -> None:
    def work(start: int, end: int) -> None:
        raise error

    chunk_size = ChunkSize(8)
    with pytest.raises(type(error)):
        in_chunks(20, chunk_size, work)
    assert chunk_size.size == 8


def test_other_errors_are_not_tried_again() -> None:
    calls: list[int] = []

    def work(start: int, end: int) -> None:
        calls.append(start)
        raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="size mismatch"):
        in_chunks(8, ChunkSize(4), work)
    assert calls == [0]
    assert not is_out_of_memory(RuntimeError("size mismatch"))


def test_given_chunk_size_bounds_both() -> None:
    images = torch.empty(1, 3, 512, 512)
    assert ChunkSizes.of(1, images) == ChunkSizes(ChunkSize(1), ChunkSize(1))
    assert ChunkSizes.of(64, images) == ChunkSizes(ChunkSize(64), ChunkSize(2))


@pytest.mark.parametrize(
    ("shape", "forward", "backward"),
    [((3, 32, 32), 64, 64), ((3, 96, 96), 64, 32), ((3, 128, 128), 32, 32), ((3, 224, 224), 16, 16),
     ((3, 512, 512), 2, 2), ((3, 2048, 2048), 1, 1)],
)  # fmt: skip
def test_of_large_images_there_are_fewer_on_a_cpu(
    shape: tuple[int, ...], forward: int, backward: int
) -> None:
    on_cpu, elsewhere = torch.empty(5, *shape), torch.empty(5, *shape, device="meta")
    assert ChunkSizes.of(None, on_cpu) == ChunkSizes(ChunkSize(forward), ChunkSize(backward))
    assert ChunkSizes.of(None, elsewhere) == ChunkSizes(ChunkSize(64), ChunkSize(max(backward, 32)))


@pytest.mark.parametrize(
    ("side", "weights", "forward"),
    [(8, 2**20, 128), (32, 3 * 2**20, 128), (32, 3 * 2**20 - 1, 64), (224, 2**30, 16)],
)
def test_of_small_images_more_share_the_reading_of_many_weights(
    side: int, weights: int, forward: int
) -> None:
    images = torch.empty(1, 3, side, side)
    assert ChunkSizes.of(None, images, weights=weights).forward == ChunkSize(forward)
    assert ChunkSizes.of(16, images, weights=weights).forward == ChunkSize(16)


def test_metric_keeps_the_size_that_worked_and_the_value() -> None:
    torch.manual_seed(0)
    model = Limited(limit=5).eval()
    images = torch.rand(12, 3, 16, 16)
    settings = {"region_size": 4, "steps": 6, "data_range": (0.0, 1.0)}
    roomy, short = AOPC(**settings), AOPC(**settings)  # type: ignore[arg-type]
    short.update(model, images)
    refused = model.refused.count
    assert refused > 0
    short.update(model, images)
    assert model.refused.count == refused
    model.limit = 10**6
    roomy.update(model, images)
    torch.testing.assert_close(short.compute(), roomy.compute(), rtol=1e-6, atol=1e-7)


def test_one_image_at_a_time_is_enough_memory() -> None:
    """Nothing that is tried beforehand takes more."""
    model, images = Limited(limit=1).eval(), torch.rand(3, 3, 16, 16)
    settings = {"region_size": 4, "steps": 4, "data_range": (0.0, 1.0)}
    one = area_over_perturbation_curve(model, images, images[:, 0], **settings)  # type: ignore[arg-type]
    model.limit = 10**6
    many = area_over_perturbation_curve(model, images, images[:, 0], **settings)  # type: ignore[arg-type]
    torch.testing.assert_close(one.curves, many.curves, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8 GB."), "8 GB"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.50 MiB"), "20.50 MiB"),
        (
            RuntimeError("can't allocate memory: you tried to allocate 800 bytes. Error code 12"),
            "800 bytes",
        ),
    ],
)
def test_the_error_of_one_image_names_the_memory_needed(error: Exception, asked: str) -> None:
    model, images = Limited(limit=0).eval(), torch.rand(2, 3, 16, 16)

    def work(start: int, end: int) -> None:
        raise error

    with pytest.raises(NotEnoughMemoryError, match=f"one image, which asked for {asked} more"):
        in_chunks(2, ChunkSize(2), work)
    metric = AOPC(region_size=4, steps=4, data_range=(0.0, 1.0))
    with pytest.raises(NotEnoughMemoryError, match="chunk of one image: free some"):
        metric.update(model, images)
    assert issubclass(NotEnoughMemoryError, torch.OutOfMemoryError)
    assert issubclass(NotEnoughMemoryError, MemoryError)


def test_sizes_are_learnt_for_each_network_and_kind_of_images() -> None:
    sizes, small, large = ChunkSizesByNetwork(None), torch.rand(1, 3, 8, 8), torch.rand(1, 3, 9, 9)
    one, other = small_network(), torch.nn.Linear(2, 2)
    learnt = sizes.of(one, small)
    learnt.forward.fix(7)
    again = pickle.loads(pickle.dumps(sizes))
    assert again.of(one, small).forward == ChunkSize(7)
    assert sizes.of(one, torch.rand(5, 3, 8, 8)) is learnt
    for network, images in ((one, large), (other, small), (one, small.double())):
        assert sizes.of(network, images).forward.size != 7
    assert sizes.of(one, large).forward.search is not None
    assert ChunkSizesByNetwork(None, searching=False).of(one, small).forward == ChunkSize(64)


def test_metrics_of_other_chunk_sizes_add_up() -> None:
    settings = {"region_size": 4, "steps": 4, "data_range": (0.0, 1.0)}
    one, other = (
        AOPC(**settings, execution=Execution(5)),
        AOPC(**settings, execution=Execution(channels_last=False)),
    )  # type: ignore[arg-type]
    other.update(small_network().eval(), torch.rand(3, 3, 16, 16))
    one.merge_state(other)
    assert one.compute() == other.compute()


ASKED_OF_THE_SYSTEM = """
import ctypes, torch
from aopc_monitor.network.memory import keep_freed_memory

names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]
mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Info

def asks(size):
    before = mallinfo2().hblks  # blocks that malloc has mapped one by one
    block = torch.empty(size, dtype=torch.uint8)
    return mallinfo2().hblks - before

size = 24 * 2**20
first = asks(size + 16 * 2**20), asks(size)  # freed blocks of more than 32 MiB teach nothing
keep_freed_memory()
print(*first, asks(size))
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc"
    or "MALLOC" in " ".join(os.environ) + os.environ.get("LD_PRELOAD", ""),
    reason="it is about glibc's malloc as it comes",
)
def test_the_system_is_not_asked_for_the_memory_of_each_forward_anew() -> None:
    command = [sys.executable, "-c", ASKED_OF_THE_SYSTEM]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "undefined symbol: mallinfo2" in done.stderr:
        pytest.skip("glibc before 2.33 does not tell")
    assert done.stdout.split() == ["1", "1", "0"]


def test_the_size_of_a_network_goes_by_its_weights() -> None:
    images, network = torch.rand(1, 3, 8, 8), torch.nn.Linear(512, 512)
    found = ChunkSizesByNetwork(None, searching=False).of(network, images)
    assert found.forward == ChunkSize(128)
