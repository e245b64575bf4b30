"""Signals that reach processes while these wait for each other.

A handler may talk to the other processes, as Lightning's of SIGTERM does. In the middle of a
forward of a sharded model what it says would be taken for a part of the forward.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

NAMES = ("SIGTERM", "SIGUSR1", "SIGUSR2")  # by which clusters tell jobs that their time is over


class HeldSignals:
    """Within this context handlers of signals wait until they are released, or it is left.

    Handlers that are not Python's, as those that end a process at once, act as ever.

    Example:
        >>> before = signal.signal(signal.SIGUSR1, lambda number, frame: print("handled"))
        >>> with HeldSignals() as signals:
        ...     signal.getsignal(signal.SIGUSR1)(signal.SIGUSR1, None)  # as Python does
        ...     signals.are_there
        True
        handled
        >>> _ = signal.signal(signal.SIGUSR1, before)
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._came: list[tuple[int, FrameType | None]] = []

    def __enter__(self) -> HeldSignals:
        """Stand in for the handlers; Python allows that in its main thread alone."""
        if threading.current_thread() is not threading.main_thread():
            return self
        for name in NAMES:
            number = getattr(signal, name, None)
            handler = None if number is None else signal.getsignal(number)
            if number is not None and callable(handler):
                self._handlers[number] = handler
                signal.signal(number, self._hold)
        return self

    def __exit__(self, *_: object) -> None:
        """Put the handlers back, and let them act."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self.release()

    @property
    def are_there(self) -> bool:
        """Whether any handler waits."""
        return bool(self._came)

    def release(self) -> None:
        """Let handlers act on what has come."""
        came, self._came = self._came, []
        for number, frame in came:
            self._handlers[number](number, frame)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        self._came.append((number, frame))
