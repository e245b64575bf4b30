"""Runs a function in several gloo processes on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run(function: Callable[..., Any], world_size: int, folder: Path, *args: Any) -> list[Any]:
    """What `function(rank, world_size, *args)` returned on each rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(  # type: ignore[no-untyped-call]
        _entry, args=(function, world_size, port, str(folder), args), nprocs=world_size
    )
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world_size)]


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
