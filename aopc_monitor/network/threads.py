"""The threads that torch computes with on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Let torch compute on the calling thread alone.

    For whatever is done in turns with a library that has threads of its own. Torch's do not rest
    after an operation, but look out for more: for 4 to 7 milliseconds with the OpenMP of torch
    2.14's wheels for Linux, also after a softmax of 640 numbers. Meanwhile they take the cores
    away, and OpenVINO took 1.8 times as long for a small network.

    Example:
        >>> with on_one_thread():
        ...     torch.get_num_threads()
        1
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
