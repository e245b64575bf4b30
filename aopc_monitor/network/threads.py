"""The threads that torch computes with on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Let torch compute on the calling thread alone.

    Beside a library with threads of its own: torch's do not rest when they have nothing to do, but
    look out for work for about a millisecond, in which they take the cores away from the others.

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
