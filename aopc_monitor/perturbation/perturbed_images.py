"""The perturbed images that a network is asked for; small ones are made for several chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from aopc_monitor.network.execution import Room
from aopc_monitor.perturbation.perturber import Block, Draws

# Numbers in replacements that are kept for the next order: a megabyte. Of inputs that are drawn one
# by one, such as photographs, 16: what a network makes of them is many times as large.
MOST_KEPT, MOST_KEPT_OF_LARGE = 2**18, 2**22
# Numbers in images that are made at once on a CPU: of several chunks, and of one under many orders.
# After a forward nothing that makes them is in the cache, not even the code: small images take half
# the time where they are made for several.
MADE_AT_ONCE, MOST_AT_ONCE = 2**20, 2**22


class PerturbedImages:
    """The perturbed images of a batch under several orders, chunk by chunk.

    Args:
        draws: the batch, how to perturb it, and what regions become.
        rank_maps: one (N, 1, H, W) map per order.
        room: for perturbed images.
        perturb: writes a block under a rank map into images.
    """

    def __init__(
        self,
        draws: Draws,
        rank_maps: Sequence[Tensor],
        room: Room,
        perturb: Callable[[Block, Tensor, Tensor], None],
    ) -> None:
        self._draws, self._rank_maps, self._room = draws, rank_maps, room
        self._perturb = perturb
        self._made: list[Tensor] = []  # of each order
        self._image = torch.empty(0)
        # Which triples these are, and the next one that was not handed out.
        self._first = self._last = self._next = 0

    def of(self, start: int, end: int, is_timed: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """For each order the images (M, C, H, W) of some triples, and which each is made of (M,).

        They may be written into, and are overwritten afterwards.

        Args:
            start: the first triple.
            end: behind the last one.
            is_timed: whether somebody takes the time, so that no others are to be made.
        """
        at_once = self._chunks_at_once(end - start)
        if at_once == 0:
            yield from self._one_by_one(start, end)
            return
        # Those of a chunk that memory did not suffice for may have been written into.
        if start != self._next or end > self._last:
            self._make(start, end if is_timed else start + at_once * (end - start))
        self._next = end
        rows = slice(start - self._first, end - self._first)
        for made in self._made:
            yield made[rows], self._image[rows]

    def _chunks_at_once(self, count: int) -> int:
        """How many chunks are made at once under all orders; 0 if that is too much for one."""
        images = self._draws.perturber.images
        numbers = count * images[0].numel()
        if images.device.type != "cpu" or numbers > MOST_KEPT:
            return 0
        under_all = numbers * len(self._rank_maps)
        return max(MADE_AT_ONCE // under_all, 1 if under_all <= MOST_AT_ONCE else 0)

    def _make(self, first: int, last: int) -> None:
        last = min(last, self._draws.perturber.num_triples)
        count, done = last - first, 0
        self._made, self._last = [], first  # before there is room for others
        self._made = [*self._room.of(count * len(self._rank_maps)).split(count)]
        for block in self._draws.blocks(first, last):
            rows = slice(done, done + len(block.image))
            for made, rank_map in zip(self._made, self._rank_maps, strict=True):
                self._perturb(block, rank_map, made[rows])
            done = rows.stop
        self._image = self._draws.perturber.image[first:last]
        self._first, self._last = first, last

    def _one_by_one(self, start: int, end: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The same, each order when it is asked for, in the room of one."""
        chunk, perturber = self._room.of(end - start), self._draws.perturber
        most = MOST_KEPT if perturber.made_at_once > 1 else MOST_KEPT_OF_LARGE
        # Larger ones are drawn again for each order: to keep them takes the memory of a chunk.
        are_kept = len(self._rank_maps) > 1 and chunk.numel() <= most
        kept = [*self._draws.blocks(start, end)] if are_kept else []
        for rank_map in self._rank_maps:
            done = 0
            for block in kept or self._draws.blocks(start, end):
                self._perturb(block, rank_map, chunk[done : done + len(block.image)])
                done += len(block.image)
            del block  # its replacements are as large as images, and the network needs the room
            yield chunk, perturber.image[start:end]
