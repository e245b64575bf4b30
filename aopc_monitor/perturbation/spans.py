"""Which regions of an order are perturbed, where these are not simply the first of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Spans:
    """For each image some stretches of its order; S of them, perturbed one at a time.

    Attributes:
        first: (N, S) the rank that a span begins with.
        last: (N, S) the rank before which it ends.
        share: (N, S) the probability that a region of the span is perturbed; all are if not given.
        chance: (N, R + 1) a uniform random number for each rank, for those of a share.

    Example:
        >>> spans = Spans(torch.tensor([[0, 2]]), torch.tensor([[2, 4]]))
        >>> ranks = torch.tensor([[3, 0, 1, 2]]).expand(2, -1)
        >>> spans.mask(ranks, image=torch.tensor([0, 0]), number=torch.tensor([0, 1]))
        tensor([[False,  True,  True, False],
                [ True, False, False,  True]])
    """

    first: Tensor
    last: Tensor
    share: Tensor | None = None
    chance: Tensor | None = None

    def mask(self, ranks: Tensor, image: Tensor, number: Tensor) -> Tensor:
        """Which locations are perturbed.

        Args:
            ranks: (M, ...) the rank of each location, R where no region is.
            image: (M,) the row of the batch that each is made of.
            number: (M,) which of its S spans is perturbed.
        """
        shape = (-1, *[1] * (ranks.ndim - 1))
        # Ranks keep their type: a wider one would make a wider copy of all of them.
        first, last = (of[image, number].view(shape).to(ranks.dtype) for of in self._bounds)
        inside = (ranks >= first) & (ranks < last)
        if self.share is None or self.chance is None:
            return inside
        chance = self.chance[image].gather(1, ranks.flatten(1).long()).view(ranks.shape)
        return inside & (chance < self.share[image, number].view(shape))

    def of_group(self, group: slice) -> Spans:
        """The same for some of the images."""
        share, chance = (None if of is None else of[group] for of in (self.share, self.chance))
        return Spans(self.first[group], self.last[group], share, chance)

    def drawn(self, regions: int, generator: torch.Generator) -> Spans:
        """The same with random numbers for the ranks of so many regions."""
        shape, device = (len(self.first), regions + 1), generator.device
        chance = torch.rand(shape, generator=generator, device=device).to(self.first.device)
        return replace(self, chance=chance)

    @property
    def shares(self) -> Tensor:
        """(N, S) `share`, or ones."""
        return torch.ones_like(self.first) if self.share is None else self.share

    @property
    def _bounds(self) -> tuple[Tensor, Tensor]:
        return self.first, self.last
