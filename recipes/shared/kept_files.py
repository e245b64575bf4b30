"""Files that a run finds again when its command is given once more."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import torch


def save_whole(content: object, file: Path) -> None:
    """`torch.save` into a file that is there as a whole or not at all, whenever the run is ended.

    Args:
        content: what `torch.save` takes.
        file: where; a file of that name is replaced.
    """
    # A name of its own, since the same command may run twice at a time.
    unfinished = file.with_name(f"{file.name}.{uuid4().hex}.unfinished")
    try:
        torch.save(content, unfinished)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
