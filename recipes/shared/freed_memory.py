"""What a command does with memory that it has freed."""

from __future__ import annotations

import ctypes
import sys

# Parameters of `mallopt`, by the header malloc.h of the GNU C library.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# Bytes: more than a layer's outputs ever take, within a C int.
_MOST = 2**30


def keep_all_freed_memory() -> bool:
    """Keep what is freed in this process for what comes next, instead of giving it back at once.

    The C library of Linux hands large blocks back to the system, and fetches the same pages again
    for the next layer; on a CPU that took up to two fifths of the time of a heatmap of 224 x 224.
    The process then stays as large as it once was, which suits a command that does nothing else. A
    library must not decide that for the training that it is a guest of.

    Returns:
        Whether the C library knows how to.
    """
    if not sys.platform.startswith("linux"):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:  # another C library than that of GNU
        return False
    trims, maps = (set_option(option, _MOST) for option in (_TRIM_THRESHOLD, _MMAP_THRESHOLD))
    return bool(trims and maps)
