"""The monitor's errors, what they say, and how people are warned of them."""

from __future__ import annotations

import logging
import sys
import warnings
from enum import IntEnum

from aopc_monitor.utilities.error_text import said_by


class Outcome(IntEnum):
    """How something went on a process. What all processes act on is the largest of theirs.

    CIRCUMSTANCES are data, memory and numbers, which say nothing against the monitor's settings.
    """

    FINE = 0
    CIRCUMSTANCES = 1
    FAILED = 2
    MISCONFIGURED = 3
    MODEL_MODIFIED = 4
    STOPPED = 5


class ConfigurationError(ValueError):
    """The monitor was given what it cannot work with, whatever the data and the network are."""


class EvaluationError(RuntimeError):
    """An evaluation failed on this process or on another one.

    Attributes:
        outcome: how.
    """

    def __init__(self, reason: str, outcome: Outcome = Outcome.FAILED) -> None:
        super().__init__(reason)
        self.outcome = outcome


def text_of(error: Exception) -> str:
    """What an error says, and what it is if it is not one of ours.

    Example:
        >>> text_of(KeyError("image")), text_of(EvaluationError("no memory"))
        ("KeyError: 'image'", 'no memory')
    """
    known = isinstance(error, (EvaluationError, ConfigurationError))
    text = said_by(error)
    return text if known else f"{type(error).__name__}: {text}"


class _Terminal(logging.Handler):
    """Prints, unless a handler of the program itself writes to the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        terminals = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
        if not any(getattr(h, "stream", self) in terminals for h in logging.root.handlers):
            print(self.format(record))


_LOGGER = logging.getLogger("aopc_monitor")
if not _LOGGER.handlers:  # a module that is imported once more must not print twice
    _LOGGER.addHandler(_Terminal())
if _LOGGER.level == logging.NOTSET:
    _LOGGER.setLevel(logging.INFO)


def tell(text: str) -> None:
    """Log a line for people under the name `aopc_monitor`; a bare terminal shows it, too.

    Example:
        >>> tell("no images")
        AOPCMonitor: no images
    """
    _LOGGER.info("AOPCMonitor: %s", text)


def warn(text: str) -> None:
    """Warn, and go on also where warnings are made errors: only one process warns.

    Example:
        >>> import contextlib
        >>> with warnings.catch_warnings(), contextlib.redirect_stderr(sys.stdout):
        ...     warnings.simplefilter("error")
        ...     warn("no images")
        AOPCMonitor: no images
    """
    try:
        warnings.warn(f"AOPCMonitor: {text}", stacklevel=3)
    except UserWarning as warning:
        print(warning, file=sys.stderr)
