"""As many images at once as pays and as memory allows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from aopc_monitor.network.fastest_chunk import ChunkSearch, Stop, cuda_clock, wall_clock
from aopc_monitor.network.lockstep import Lockstep, current
from aopc_monitor.network.memory import NotEnoughMemoryError, is_out_of_memory, shortage
from aopc_monitor.network.usual_chunks import (
    backward_chunk_size,
    numbers_of_one,
    suggested_chunk_size,
)
from aopc_monitor.utilities.distributed import are_several

# On a CPU larger chunks are not looked for: nothing warns before memory is full.
MOST_BYTES_ON_CPU = 64 * 2**20
MOST_IMAGES = 4096


@dataclass
class ChunkSize:
    """How many images are worked on at once; what memory did not allow is not tried again.

    Attributes:
        size: images at once.
        search: looks for a faster size while there is work; None where the size is fixed.
    """

    size: int
    search: ChunkSearch | None = None

    def fix(self, size: int) -> None:
        """Stay at a size."""
        self.size, self.search = size, None


@dataclass
class ChunkSizes:
    """Chunk sizes that an evaluation starts from, and leaves smaller where memory was short.

    Attributes:
        forward: for forward passes alone.
        backward: for heatmaps, most of which need a backward pass.
    """

    forward: ChunkSize
    backward: ChunkSize

    @classmethod
    def of(
        cls, chunk_size: int | None, images: Tensor, searching: bool = False, weights: int = 0
    ) -> ChunkSizes:
        """The sizes that are usual for images (N, C, H, W), none of them above a given one.

        Args:
            chunk_size: images per forward pass.
            images: of the kind that goes through the network.
            searching: if no size is given, whether a faster one is looked for.
            weights: how many numbers the network's parameters hold, if that is known.
        """
        first = suggested_chunk_size(images, weights) if chunk_size is None else chunk_size
        search = ChunkSearch(first) if searching and chunk_size is None else None
        return cls(ChunkSize(first, search), ChunkSize(min(first, backward_chunk_size(images))))


class ChunkSizesByNetwork:
    """Chunk sizes that are learnt for each network and kind of images.

    Args:
        chunk_size: images per forward pass.
        searching: if no size is given, whether a fast one is looked for, unless several processes
            work together: a network may wait for them in its forward.
    """

    def __init__(self, chunk_size: int | None, searching: bool = True) -> None:
        self._chunk_size, self._searching = chunk_size, searching
        self._known: dict[tuple[object, ...], ChunkSizes] = {}

    def of(self, model: nn.Module, images: Tensor) -> ChunkSizes:
        """The sizes for a network and images (N, C, H, W)."""
        # Texts and numbers, so that a copy holds no network.
        weights = sum(p.numel() for p in model.parameters() if not is_lazy(p))
        tensors = (images.shape[1:], str(images.dtype), str(images.device))
        kind = (weights, sum(1 for _ in model.modules()), *tensors)
        if kind not in self._known:
            searching = self._searching and not are_several()
            self._known[kind] = ChunkSizes.of(self._chunk_size, images, searching, weights)
        return self._known[kind]


def proceed() -> None:
    """Nothing speaks against the next chunk."""


def in_chunks(
    total: int,
    chunk_size: ChunkSize,
    work: Callable[[int, int], None],
    before_each: Callable[[], None] = proceed,
    timed: Timed | None = None,
    what: str = "a chunk",
) -> None:
    """Do work in chunks, in smaller ones where memory does not suffice.

    Processes that look at a sharded model together take smaller ones together, and fail together.

    Args:
        total: how much there is to do.
        chunk_size: how much at once; smaller afterwards if memory was short.
        work: does the part from a start to an end; called again for a smaller part after it ran out
            of memory.
        before_each: called before each chunk; raises to stop.
        timed: how to time chunks, if a faster size may be looked for on the way.
        what: the work, in a word; the same on all processes.

    Raises:
        NotEnoughMemoryError: if memory does not suffice for a chunk of one.

    Example:
        >>> def work(start, end):
        ...     if end - start > 3:
        ...         raise MemoryError
        ...     print(start, end)
        >>> size = ChunkSize(8)
        >>> in_chunks(5, size, work)
        0 2
        2 4
        4 5
        >>> size
        ChunkSize(size=2, search=None)
    """
    step = current()
    if step is not None:
        _in_chunks_together(step, total, chunk_size, work, before_each, what)
        return
    start, whole = 0, chunk_size.size
    while start < total:
        before_each()
        end = min(start + chunk_size.size, total)
        stop = timed.start(chunk_size) if timed is not None else None
        try:
            work(start, end)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if end - start == 1:
                # No size works now; that says nothing of the time when there is memory again.
                chunk_size.size = whole
                raise NotEnoughMemoryError(shortage(error)) from error
            chunk_size.fix((end - start) // 2)
            if torch.cuda.is_initialized():
                # What torch keeps of the attempt would be missing elsewhere, as in a training.
                torch.cuda.empty_cache()
            continue
        if timed is not None and stop is not None and end - start == chunk_size.size:
            timed.note(chunk_size, stop)
        start = end
    if timed is not None:
        timed.finish(chunk_size)


def _in_chunks_together(
    step: Lockstep,
    total: int,
    chunk_size: ChunkSize,
    work: Callable[[int, int], None],
    before_each: Callable[[], None],
    what: str,
) -> None:
    """The same for processes in step: before each chunk all hear how the last one went."""
    start, count, error = 0, 0, None
    while True:
        if start < total and error is None:
            error = _raised_by(before_each)
        short = count > 1 and error is not None and is_out_of_memory(error)
        following = min(chunk_size.size, total - start)
        told = step.check(f"{what}, {following}", None if short else error, short)
        if told.short:
            chunk_size.fix(count // 2)
            start, count, error = start - count, 0, None
            continue
        if told.interrupted:  # which may speak against the next chunk
            continue
        if start >= total:
            return
        count = following
        part = partial(work, start, start + count)
        error = _raised_by(partial(step.run, f"{what}, {count}", part, told.unknown))
        if count == 1 and error is not None and is_out_of_memory(error):
            error = NotEnoughMemoryError(shortage(error))
        start += count


def _raised_by(call: Callable[[], object]) -> Exception | None:
    """What a call raised, which has to wait until all processes hear of it."""
    try:
        call()
    except Exception as error:  # whatever a user's model may raise
        return error
    return None


@dataclass
class Timed:
    """How chunks of some work are timed, for the search of a faster size.

    Attributes:
        most: no larger chunk is tried.
        clock: starts a clock. What it returns stops it, and returns what reads the seconds.
        behind: how many chunks stay unread. With one, a device always has a chunk to work on while
            the host reads the time of the chunk before: neither waits for the other.
    """

    most: int
    clock: Callable[[], Stop] = wall_clock
    behind: int = 0
    _unread: deque[tuple[int, Callable[[], float]]] = field(default_factory=deque, repr=False)

    def start(self, chunk_size: ChunkSize) -> Stop | None:
        """Start a clock, if there is a search that asks for the time."""
        return None if chunk_size.search is None else self.clock()

    def note(self, chunk_size: ChunkSize, stop: Stop) -> None:
        """Stop the clock of a full chunk, and tell the search how long earlier ones took."""
        self._unread.append((chunk_size.size, stop()))
        while len(self._unread) > self.behind:
            self._tell(chunk_size)

    def finish(self, chunk_size: ChunkSize) -> None:
        """Tell the search of the chunks that are left."""
        while self._unread:
            self._tell(chunk_size)

    def _tell(self, chunk_size: ChunkSize) -> None:
        size, seconds = self._unread.popleft()
        if chunk_size.search is None:
            return
        following = chunk_size.search.note(size, seconds(), self.most)
        if following is None:
            chunk_size.fix(chunk_size.search.best)
        else:
            chunk_size.size = following


def timed_on(images: Tensor) -> Timed:
    """How chunks of such images (N, C, H, W) are timed on their device."""
    device = images.device
    if device.type == "cpu":
        bytes_of_one = numbers_of_one(images) * images.element_size()
        return Timed(MOST_BYTES_ON_CPU // bytes_of_one)
    if device.type == "cuda":
        return Timed(MOST_IMAGES, partial(cuda_clock, device), behind=1)
    wait = torch.get_device_module(device).synchronize
    return Timed(MOST_IMAGES, partial(wall_clock, wait))
