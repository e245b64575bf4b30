"""Runs a function in several gloo processes on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

# Imports take a process seconds. One process has them behind it, and the others are its forks.
IMPORTED = ["aopc_monitor.monitor", "tests.modules", "tests.processes"]
_start_processes = mp.start_processes


def run(function: Callable[..., Any], world_size: int, folder: Path, *args: Any) -> list[Any]:
    """What `function(rank, world_size, *args)` returned on each rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start(_entry, (function, world_size, port, str(folder), args), world_size)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world_size)]


def start(function: Callable[..., Any], args: Any, nprocs: int, **options: Any) -> Any:
    """As `torch.multiprocessing.start_processes` spawns them, in a tenth of the time."""
    mp.set_forkserver_preload(IMPORTED)
    options["start_method"] = "forkserver"
    args = (dict(os.environ), function, *args)
    return _start_processes(_in_environment, args, nprocs, **options)


@contextmanager
def quick_starts() -> Iterator[None]:
    """Where Lightning spawns processes they are started so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mp, "start_processes", start)
        yield


def _in_environment(
    rank: int, environment: dict[str, str], function: Callable[..., Any], *args: Any
) -> None:
    # A fork has the environment of the moment at which the process that it is a fork of began.
    os.environ.clear()
    os.environ.update(environment)
    function(rank, *args)


def _entry(
    rank: int, function: Callable[..., Any], world_size: int, port: int, folder: str, args: Any
) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    try:
        torch.save(function(rank, world_size, *args), Path(folder) / f"{rank}.pt")
        # Who leaves first must not take the common store along.
        dist.barrier()
    finally:
        dist.destroy_process_group()
