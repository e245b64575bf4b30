"""What the processes exchange in a chunk that is the first of its kind, told before it is done.

The store is the one by which the processes of a training found each other: no process has to answer
when another one reads what it wrote.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

import torch
import torch.distributed as dist

from aopc_monitor.network.exchanges import Exchange, OutOfStepError, own_groups

_ENDED = "ended"
_POLL_SECONDS = 0.002
# The number of the last chunk that was announced; the same on all processes, which keep step.
_NUMBERS = [0]
# What this process has written of it.
_LEFT: list[str] = []


class Announcements:
    """The exchanges of one chunk."""

    def __init__(self) -> None:
        _NUMBERS[0] += 1
        self._store: Any = dist.distributed_c10d._get_default_store()
        self._prefix = f"aopc_monitor/{_NUMBERS[0]}"
        self._rank, self._count = dist.get_rank(), dist.get_world_size()
        self._first_goes_on = True
        for key in _LEFT:  # all have read it, since they are done with the chunk before
            self._store.delete_key(key)
        _LEFT.clear()

    def tell(self, number: int, exchange: Exchange) -> None:
        """Announce an exchange, and see that the first process makes the same.

        Raises:
            OutOfStepError: if it makes another one.
        """
        text = json.dumps(asdict(exchange))
        if self._rank > 0 and self._first_goes_on:
            wanted = self._store.get(self._key(0, number)).decode()
            self._first_goes_on = wanted != _ENDED
            if self._first_goes_on and wanted != text:
                raise OutOfStepError(
                    "the network takes different ways on different processes: its exchange number "
                    f"{number} is {text} on process {self._rank}, and {wanted} on process 0"
                )
        self._write(number, text)

    def follow(self, number: int, device: torch.device) -> int:
        """Take part in whatever other processes go on to exchange with this one, until all ended.

        Args:
            number: how many exchanges this process has made.
            device: where.

        Returns:
            How many there were.
        """
        self._write(number, _ENDED)
        self._store.add(f"{self._prefix}/{_ENDED}", 1)
        peers = {rank for group in own_groups() for rank in dist.get_process_group_ranks(group)}
        first = number
        while True:
            have_all_ended = self._store.add(f"{self._prefix}/{_ENDED}", 0) == self._count
            exchange = self._next(number, peers - {self._rank})
            if exchange is not None:
                exchange.join(device)
                number += 1
            elif have_all_ended:
                return number - first
            else:
                time.sleep(_POLL_SECONDS)

    def _next(self, number: int, peers: set[int]) -> Exchange | None:
        """What another process waits for this one to take part in."""
        for peer in sorted(peers):
            key = self._key(peer, number)
            if not self._store.check([key]):
                continue
            text = self._store.get(key).decode()
            if text == _ENDED:
                continue
            found = json.loads(text)
            shapes = tuple(tuple(shape) for shape in found.pop("shapes"))
            exchange = Exchange(shapes=shapes, **found)
            if peer in exchange.ranks():
                return exchange
        return None

    def _write(self, number: int, text: str) -> None:
        key = self._key(self._rank, number)
        self._store.set(key, text)
        _LEFT.append(key)

    def _key(self, rank: int, number: int) -> str:
        return f"{self._prefix}/{rank}/{number}"
