"""Memory that is freed, and errors that say that it did not suffice."""

from __future__ import annotations

import re
from functools import cache

import torch

# Bytes: glibc learns from freed blocks of up to 32 MiB, its own bookkeeping included.
MOST_THAT_TEACHES = 32 * 2**20 - 2**16


class NotEnoughMemoryError(torch.OutOfMemoryError, MemoryError):
    """Memory does not suffice for a single image."""


def shortage(error: BaseException) -> str:
    """What a single image lacked, for people."""
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


@cache
def keep_freed_memory() -> None:
    """Let the C library of Linux keep what a forward frees on the CPU, for the next one.

    By default it gives freed memory back to the system at once, and each forward pays for the same
    pages again: a small network took half as long again on one machine. It keeps up to 64 MB after
    a block of 32 MB was freed, as in any larger training. So one is, which nobody writes to.
    """
    torch.empty(MOST_THAT_TEACHES, dtype=torch.uint8, device="cpu")
