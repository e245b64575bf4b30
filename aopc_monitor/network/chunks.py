"""As many images at once as pays and as memory allows."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from aopc_monitor.utilities.distributed import are_several

MOST_AT_FIRST = 64
# Backward passes keep what their forward passes computed.
MOST_BACKWARD = 32
# On a CPU, where what a network computes is fastest from the cache: numbers in the images.
MOST_NUMBERS_ON_CPU = 16 * 3 * 224 * 224
# Bytes: glibc learns from freed blocks of up to 32 MiB, its own bookkeeping included.
MOST_THAT_TEACHES = 32 * 2**20 - 2**16


def suggested_chunk_size(images: Tensor) -> int:
    """Images (N, C, H, W) of one forward, where nothing is known of the network.

    Example:
        >>> [suggested_chunk_size(torch.empty(1, 3, side, side)) for side in (32, 224, 512)]
        [64, 16, 2]
    """
    if images.device.type != "cpu":
        return MOST_AT_FIRST
    fitting = max(1, MOST_NUMBERS_ON_CPU // images.shape[1:].numel())
    return int(min(MOST_AT_FIRST, 2 ** (fitting.bit_length() - 1)))


class NotEnoughMemoryError(torch.OutOfMemoryError, MemoryError):
    """Memory does not suffice for a single image."""


class ChunkSearch:
    """Looks for the size at which most images go through in a second, on the work itself.

    Doubles as long as that pays; if it does not at once, halves as long as that pays. The best size
    so far and the next one take turns: a machine that is slow for a while is slow for both.

    Args:
        first: the size to begin with.

    Example:
        >>> search, size = ChunkSearch(first=128), 128
        >>> while size:  # 64 images take 1 second, and each image more or less makes it worse
        ...     size, last = search.note(size, seconds=size * (1 + abs(size - 64)), most=1024), size
        >>> search.best
        64
    """

    TURNS = 5
    # Smaller gains are within the noise.
    GAIN = 1.08

    def __init__(self, first: int) -> None:
        self.first, self.best = first, first
        self.least = min(16, max(1, first // 4))
        self._next = 2 * first
        self._seconds: dict[int, list[float]] = {}

    def note(self, size: int, seconds: float, most: int) -> int | None:
        """Take down how long a chunk took.

        Args:
            size: images in the chunk.
            seconds: wall time.
            most: no size above it is tried.

        Returns:
            The size to go on with; None when `best` is found.
        """
        self._seconds.setdefault(size, []).append(max(seconds, 1e-9) / size)
        if all(len(self._seconds.get(n, ())) >= self.TURNS for n in (self.best, self._next)):
            self._decide()
        if self._next > max(self.best, most):  # too much; smaller may pay
            self._next = self.first // 2 if self.best == self.first else 0
        if self._next < self.least:
            return None
        return self._next if size == self.best else self.best

    def _decide(self) -> None:
        """Between the best size so far and the next."""
        turns = zip(self._seconds[self.best], self._seconds[self._next], strict=False)
        # The first time of a size is often slow, and the machine may become faster within a turn.
        gain = median(before / now for before, now in turns)
        is_larger, self._seconds = self._next > self.best, {}
        if gain > self.GAIN:
            self.best = self._next
            self._next = 2 * self.best if is_larger else self.best // 2
        else:
            self._next = self.first // 2 if is_larger and self.best == self.first else 0


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
    def of(cls, chunk_size: int | None, images: Tensor, searching: bool = False) -> ChunkSizes:
        """The sizes that are usual for images (N, C, H, W), none of them above a given one.

        Args:
            chunk_size: images per forward pass.
            images: of the kind that goes through the network.
            searching: if no size is given, whether a faster one is looked for.
        """
        first = suggested_chunk_size(images) if chunk_size is None else chunk_size
        search = ChunkSearch(first) if searching and chunk_size is None else None
        return cls(ChunkSize(first, search), ChunkSize(min(first, MOST_BACKWARD)))


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
            self._known[kind] = ChunkSizes.of(self._chunk_size, images, searching)
        return self._known[kind]


@cache
def keep_freed_memory() -> None:
    """Let the C library of Linux keep what a forward frees on the CPU, for the next one.

    By default it gives freed memory back to the system at once, and each forward pays for the same
    pages again: a small network took half as long again on one machine. It keeps up to 64 MB after
    a block of 32 MB was freed, as in any larger training. So one is, which nobody writes to.
    """
    torch.empty(MOST_THAT_TEACHES, dtype=torch.uint8, device="cpu")


def proceed() -> None:
    """Nothing speaks against the next chunk."""


def in_chunks(
    total: int,
    chunk_size: ChunkSize,
    work: Callable[[int, int], None],
    before_each: Callable[[], None] = proceed,
    timed: Timed | None = None,
) -> None:
    """Do work in chunks, in smaller ones where memory does not suffice.

    Args:
        total: how much there is to do.
        chunk_size: how much at once; smaller afterwards if memory was short.
        work: does the part from a start to an end; called again for a smaller part after it ran out
            of memory.
        before_each: called before each chunk; raises to stop.
        timed: how to time chunks, if a faster size may be looked for on the way.

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
    start, whole = 0, chunk_size.size
    while start < total:
        before_each()
        end = min(start + chunk_size.size, total)
        began = time.perf_counter()
        try:
            work(start, end)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if end - start == 1:
                # No size works now; that says nothing of the time when there is memory again.
                chunk_size.size = whole
                raise NotEnoughMemoryError(_of_one(error)) from error
            chunk_size.fix((end - start) // 2)
            if torch.cuda.is_initialized():
                # What torch keeps of the attempt would be missing elsewhere, as in a training.
                torch.cuda.empty_cache()
            continue
        if timed is not None and end - start == chunk_size.size:
            timed.note(chunk_size, began)
        start = end


@dataclass(frozen=True)
class Timed:
    """How chunks of some work are timed.

    Attributes:
        most: no larger chunk is tried.
        wait: returns when the device has done its work.
    """

    most: int
    wait: Callable[[], None] = proceed

    def note(self, chunk_size: ChunkSize, began: float) -> None:
        """Tell the search, if there is one, of a full chunk that began then."""
        if chunk_size.search is None:
            return
        self.wait()
        seconds = time.perf_counter() - began
        following = chunk_size.search.note(chunk_size.size, seconds, self.most)
        if following is None:
            chunk_size.fix(chunk_size.search.best)
        else:
            chunk_size.size = following


def _of_one(error: BaseException) -> str:
    asked = re.search(r"tried to allocate ([\d.]+ ?\w+)", str(error), re.IGNORECASE)
    needed = f", which asked for {asked[1]} more" if asked else ""
    return (
        f"memory does not suffice for a chunk of one image{needed}: free some, take smaller images "
        f"or a smaller network. {type(error).__name__}: {error}"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice.

    Example:
        >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
        True
    """
    # Only CUDA's allocator has an exception class of its own.
    words = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
    texts = [argument for argument in error.args if isinstance(argument, str)]
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        word in text for word in words for text in texts
    )
