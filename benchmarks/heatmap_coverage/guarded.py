"""A function in a process of its own, which may crash, run out of memory or take too long."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


class NotMeasuredError(Exception):
    """What kept a function from returning."""


def guarded(
    function: Callable[[str], Result], argument: str, seconds: float, gigabytes: float
) -> Result:
    """What the function returns.

    Args:
        function: of a module, since its name goes to the other process.
        argument: what it is given.
        seconds: how long it may take.
        gigabytes: how much memory it may have, where the system can limit it.

    Raises:
        NotMeasuredError: if it raised, crashed, took too long or wanted more memory.
    """
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload([function.__module__])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(function, argument, gigabytes, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise NotMeasuredError(f"it took more than {seconds:.0f} s")
        returned, answer = receiver.recv()
    except EOFError:
        process.join()
        raise NotMeasuredError(f"the process ended with code {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
    if not returned:
        raise NotMeasuredError(answer)
    return answer


def _run(
    function: Callable[[str], object], argument: str, gigabytes: float, sender: Connection
) -> None:
    torch.set_num_threads(1)
    _limit_memory(gigabytes)
    try:
        answer = (True, function(argument))
    except MemoryError:
        answer = (False, f"it wanted more than {gigabytes:.0f} GB of memory")
    except NotMeasuredError as error:
        answer = (False, str(error))
    except Exception as error:
        answer = (False, f"{type(error).__name__}: {error}")
    sender.send(answer)


def _limit_memory(gigabytes: float) -> None:
    if sys.platform == "linux":
        import resource

        limit = int(gigabytes * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
