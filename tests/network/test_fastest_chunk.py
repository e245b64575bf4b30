"""Chunk sizes that are looked for on the work itself, by a clock that the tests set."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aopc_monitor.network import fastest_chunk
from aopc_monitor.network.chunks import ChunkSize, ChunkSizes, Timed, in_chunks
from aopc_monitor.network.fastest_chunk import ChunkSearch, Stop, cuda_clock, wall_clock

SMALL = torch.empty(1, 3, 32, 32)
Rate = Callable[[int], float]
RATES: dict[str, tuple[Rate, int]] = {
    "rising": (lambda size: float(size), 1024),
    "falling": (lambda size: 1.0 / size, 16),
    "level": (lambda size: 1.0, 128),
    "rising within the noise": (lambda size: size**0.1, 128),
    "peak at first": (lambda size: -abs(size - 128) + 2000.0, 128),
    "peak above": (lambda size: 1.0 / abs(size - 500), 512),
    "peak below": (lambda size: 1.0 / abs(size - 63), 64),
}


def searched(rate: Rate, first: int, most: int, hiccup: float = 1.0) -> tuple[int, list[int]]:
    """The size found, and those asked for; the first time of a larger one takes longer."""
    search, asked = ChunkSearch(first), [first]
    size: int | None = first
    while size is not None:
        is_new = size > first and asked.count(size) == 1
        size = search.note(size, size / rate(size) * (hiccup if is_new else 1.0), most)
        asked += [size] if size is not None else []
        assert len(asked) < 200
    return search.best, asked


@pytest.mark.parametrize(("rate", "best"), RATES.values(), ids=RATES)
def test_the_fastest_size_is_found(rate: Rate, best: int) -> None:
    for hiccup in (1.0, 10.0):
        found, asked = searched(rate, first=128, most=1024, hiccup=hiccup)
        assert found == best
        assert set(asked) <= {16, 32, 64, 128, 256, 512, 1024}


@given(
    peak=st.integers(0, 12), first=st.integers(2, 10), most=st.integers(2**4, 2**14),
    gains=st.lists(st.floats(1.2, 8.0), min_size=16, max_size=16),
)  # fmt: skip
def test_the_peak_of_any_curve_is_found_within_bounds(
    peak: int, first: int, most: int, gains: list[float]
) -> None:
    """Rates that rise to a peak and fall, by more than noise from one power of two to the next."""

    def rate(size: int) -> float:
        exponent = size.bit_length() - 1
        between = gains[min(exponent, peak) : max(exponent, peak)]
        return 1 / float(torch.tensor([1.0, *between], dtype=torch.float64).prod())

    found, asked = searched(rate, 2**first, most)
    # What one begins with is used whatever the bound.
    assert max(asked) <= max(most, 2**first)
    assert min(asked) >= min(16, 2**first // 4)
    assert len(asked) <= 2 * ChunkSearch.TURNS * (abs(peak - first) + 2) + 1
    highest = max(first, most.bit_length() - 1)
    lowest = min(4, first - 2)
    assert found == 2 ** max(lowest, min(peak, highest))


@pytest.mark.parametrize("slow", range(30))
@pytest.mark.parametrize("factor", [5.0, 0.2])
def test_a_machine_that_becomes_faster_or_slower_is_not_taken_for_a_size(
    slow: int, factor: float
) -> None:
    """Others on the machine begin or end some work after so many chunks."""
    search, count = ChunkSearch(128), 0
    size: int | None = 128
    while size is not None:
        # The first time of a size takes longer.
        seconds = size * (factor if count < slow else 1.0) * (3.0 if count in (0, 1, 7) else 1.0)
        size, count = search.note(size, seconds, most=1024), count + 1
    assert search.best == 128


class Worker:
    """Works at a rate of images a second on a clock of its own, within a limit of memory."""

    def __init__(self, rate: Rate, limit: int = 10**9) -> None:
        self.rate, self.limit, self.seconds = rate, limit, 0.0
        self.done: list[tuple[int, int]] = []

    def __call__(self, start: int, end: int) -> None:
        if end - start > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.done.append((start, end))
        self.seconds += (end - start) / self.rate(end - start)

    def sizes(self, total: int) -> list[int]:
        """Of chunks since the last time, which are one after the other and all there is."""
        done, self.done = self.done, []
        ends = [0, *(end for _, end in done)]
        assert [start for start, _ in done] == ends[:-1]
        assert ends[-1] == total
        return [end - start for start, end in done]


def from_128() -> ChunkSize:
    return ChunkSize(128, ChunkSearch(128))


def working(monkeypatch: pytest.MonkeyPatch, rate: Rate, limit: int = 10**9) -> Worker:
    worker = Worker(rate, limit)
    monkeypatch.setattr(fastest_chunk, "time", SimpleNamespace(perf_counter=lambda: worker.seconds))
    return worker


@pytest.mark.parametrize(("rate", "best"), RATES.values(), ids=RATES)
def test_a_search_does_all_the_work_and_keeps_what_it_found(
    rate: Rate, best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, chunk_size = working(monkeypatch, rate), from_128()
    in_chunks(20_003, chunk_size, worker, timed=Timed(most=1024))
    sizes = worker.sizes(20_003)
    assert chunk_size == ChunkSize(best, search=None)
    assert sizes[-2:] == [best, 20_003 - sum(sizes[:-1])]
    in_chunks(3 * best, chunk_size, worker, timed=Timed(most=1024))
    assert worker.sizes(3 * best) == [best] * 3


def test_a_search_goes_on_from_batch_to_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of a batch, which is no full chunk, tells nothing."""
    worker = working(monkeypatch, lambda size: 1 / size if size != 44 else 1000.0)
    chunk_size = from_128()
    for _ in range(40):
        in_chunks(300, chunk_size, worker, timed=Timed(most=1024))
        worker.sizes(300)
    assert chunk_size == ChunkSize(16, search=None)


def test_running_out_of_memory_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = working(monkeypatch, lambda size: float(size), limit=300)
    chunk_size = from_128()
    in_chunks(10_000, chunk_size, worker, timed=Timed(most=4096))
    sizes = worker.sizes(10_000)
    assert chunk_size == ChunkSize(256, search=None)
    # Not 512: memory did not suffice for it.
    assert sizes == [128, 256] * 5 + [256] * 31 + [144]


def test_a_size_is_searched_for_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = working(monkeypatch, RATES["peak above"][0])
    chunk_size = ChunkSizes.of(None, SMALL, searching=True)
    assert chunk_size.forward.size == 64
    in_chunks(20_000, chunk_size.forward, worker, timed=Timed(most=1024))
    assert chunk_size.forward == ChunkSize(512, search=None)


def test_a_given_size_is_not_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = working(monkeypatch, lambda size: float(size))
    sizes = (ChunkSizes.of(8, SMALL, searching=True), ChunkSizes.of(None, SMALL))
    for chunk_size in (one.forward for one in sizes):
        kept = chunk_size.size
        in_chunks(2000, chunk_size, worker, timed=Timed(most=4096))
        assert set(worker.sizes(2000)[:-1]) == {kept}


def test_the_device_is_waited_for_before_the_time_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its work goes on after the call: without the wait, the largest chunk would be the fastest."""
    worker = working(monkeypatch, lambda size: float(size))
    pending = [0.0]

    def start_only(start: int, end: int) -> None:
        pending[0] += (end - start) ** 2

    def wait() -> None:
        worker.seconds, pending[0] = worker.seconds + pending[0], 0.0

    chunk_size = from_128()
    in_chunks(10_000, chunk_size, start_only, timed=Timed(4096, partial(wall_clock, wait)))
    assert chunk_size.size == 16


class Device:
    """Works through a queue on a clock of its own, which goes on only while somebody waits for it.

    Args:
        rate: images a second, of a chunk size.
    """

    def __init__(self, rate: Rate) -> None:
        self.rate, self.queue, self.clock = rate, deque[float](), 0.0
        self.started, self.waits_for_all = 0, 0

    def __call__(self, start: int, end: int) -> None:
        self.queue.append((end - start) / self.rate(end - start))
        self.started += 1

    def start(self) -> Stop:
        number, seconds = self.started, self.queue

        def stop() -> Callable[[], float]:
            own = seconds[-1]

            def read() -> float:
                while self.started - len(self.queue) <= number:
                    self.clock += self.queue.popleft()
                self.waits_for_all += not self.queue
                return own

            return read

        return stop


@pytest.mark.parametrize(("rate", "best"), RATES.values(), ids=RATES)
def test_a_device_that_is_timed_by_itself_never_runs_dry(rate: Rate, best: int) -> None:
    """Each chunk's time is read while the next one is worked on; only the last has none behind."""
    device, chunk_size = Device(rate), from_128()
    in_chunks(20_003, chunk_size, device, timed=Timed(1024, device.start, behind=1))
    assert chunk_size == ChunkSize(best, search=None)
    assert device.waits_for_all == 0


def test_what_is_left_to_read_is_read_at_the_end() -> None:
    """Batches of a chunk each would otherwise never tell anything."""
    device, chunk_size = Device(lambda size: float(size)), from_128()
    for _ in range(200):
        in_chunks(chunk_size.size, chunk_size, device, timed=Timed(1024, device.start, behind=1))
    assert chunk_size == ChunkSize(1024, search=None)


def test_events_enclose_a_chunk_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for CUDA: nothing is waited for before the time is read."""
    done: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: str) -> None:
            done.append(f"recorded in {stream}")

        def synchronize(self) -> None:
            done.append("waited")

        def elapsed_time(self, end: Event) -> float:
            return 250.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the stream of {device}")
    stop = cuda_clock(torch.device("cuda", 1))
    done.append("worked")
    read = stop()
    recorded = "recorded in the stream of cuda:1"
    assert done == [recorded, "worked", recorded]
    assert read() == 0.25
    assert done[3:] == ["waited"]


def test_without_a_search_no_clock_is_started() -> None:
    def start() -> Stop:
        raise AssertionError("nobody asks for the time")

    done: list[int] = []
    in_chunks(10, ChunkSize(4), lambda a, b: done.append(b - a), timed=Timed(64, start))
    assert done == [4, 4, 2]
