"""Which chunk size is fastest: found out on the work itself, by clocks that stop no device."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import TypeAlias

import torch

# Stops a clock, and returns what reads the seconds that it ran for.
Stop: TypeAlias = Callable[[], Callable[[], float]]


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


def wall_clock(wait: Callable[[], None] = lambda: None) -> Stop:
    """Start a clock on the host.

    Args:
        wait: returns when the device has done its work.
    """
    began = time.perf_counter()

    def stop() -> Callable[[], float]:
        wait()
        seconds = time.perf_counter() - began
        return lambda: seconds

    return stop


def cuda_clock(device: torch.device) -> Stop:
    """Start a clock on a CUDA device, which the host does not wait for before it is read."""
    stream = torch.cuda.current_stream(device)
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began.record(stream)

    def read() -> float:
        ended.synchronize()
        return float(began.elapsed_time(ended)) / 1e3

    def stop() -> Callable[[], float]:
        ended.record(stream)
        return read

    return stop
