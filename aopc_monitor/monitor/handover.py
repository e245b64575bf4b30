"""What a training in spawned or forked processes found, handed back to the process that began it.

Notebooks train so: Lightning copies trainer and callbacks into new processes, and of what these
learn only weights and metrics come back.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import torch

if TYPE_CHECKING:
    from pytorch_lightning import Trainer


class Handover:
    """A file between the processes of a training and the one that this object was made in.

    Its name is chosen where the object is made, and goes with it into other processes. The file
    goes when the object does, also where nobody asked what was found.
    """

    def __init__(self) -> None:
        self._home = os.getpid()
        self._path = Path(tempfile.gettempdir()) / f"aopc_monitor_{uuid4().hex}.pt"
        weakref.finalize(self, _remove, self._path, self._home)

    def __deepcopy__(self, memo: dict[int, Any]) -> Handover:
        # A copy beside this one has a file of its own, which does not go with this one's.
        return Handover()

    def leave(self, trainer: Trainer, state: Mapping[str, Any]) -> None:
        """Leave texts, numbers and tensors for the process that began, where this is another."""
        is_away = os.getpid() != self._home and _launches_copies(trainer)
        if not is_away or not trainer.is_global_zero:
            return
        written = self._path.with_suffix(".part")
        torch.save(dict(state), written)
        os.replace(written, self._path)  # whole, or not at all

    def found(self) -> dict[str, Any] | None:
        """What was left since the last time; None for nothing."""
        if os.getpid() != self._home or not self._path.exists():
            return None
        state: dict[str, Any] = torch.load(self._path, weights_only=True)
        self._path.unlink()
        return state


def _remove(path: Path, home: int) -> None:
    """Remove the file, unless this is a copy of the process that it is for."""
    if os.getpid() == home:
        path.unlink(missing_ok=True)


def _launches_copies(trainer: Trainer) -> bool:
    """Whether a trainer's processes are copies of the one that began, and not scripts run anew."""
    names = [kind.__name__ for kind in type(trainer.strategy.launcher).__mro__]
    return "_MultiProcessingLauncher" in names
