"""Arguments that have moved into `Execution`: an error tells where, whatever else is missing."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from aopc_monitor.network.execution import refuse_moved

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def telling_what_moved(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function, or `__init__`, with an error for arguments that are those of `Execution` now.

    Example:
        >>> @telling_what_moved
        ... def measure(*, steps): ...
        >>> measure(chunk_size=8)
        Traceback (most recent call last):
        TypeError: measure() takes no chunk_size: give execution=Execution(chunk_size=...)
    """

    @wraps(function)
    def asked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        is_method = function.__name__ == "__init__"
        refuse_moved(type(args[0]).__name__ if is_method else function.__name__, kwargs)
        return function(*args, **kwargs)

    return asked
