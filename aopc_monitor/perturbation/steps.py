"""Which steps of the perturbation curve are evaluated: all, or one of each stratum."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from aopc_monitor.utilities.statistics import accumulator_dtype


@dataclass(frozen=True)
class Strata:
    """The steps 1 ... L, cut into J parts of nearly equal size.

    One step is drawn from each part and stands for all of it. Since each step of a part is as
    likely as any other, the area that follows is unbiased. With J = L every step is evaluated.

    Attributes:
        steps: L.
        count: J, from 1 to L.
    """

    steps: int
    count: int

    @property
    def sizes(self) -> list[int]:
        """Steps in each part.

        Example:
            >>> Strata(steps=10, count=4).sizes
            [2, 3, 2, 3]
        """
        edges = self._edges()
        return [high - low for low, high in pairwise(edges)]

    def draw(self, rows: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """One step of each part, independently in each row: (rows, J), from 1 to L.

        Example:
            >>> Strata(4, 4).draw(2, torch.Generator(), torch.device("cpu"))
            tensor([[1, 2, 3, 4],
                    [1, 2, 3, 4]])
        """
        first = torch.tensor(self._edges()[:-1], device=device) + 1
        if self.count == self.steps:  # nothing to draw
            return first.expand(rows, -1)
        dtype = accumulator_dtype(generator.device)
        uniform = torch.rand(
            (rows, self.count), generator=generator, device=generator.device, dtype=dtype
        ).to(device)
        sizes = torch.tensor(self.sizes, device=device)
        # Rounding may lift a number just below 1 to the size itself.
        return first + torch.minimum((uniform * sizes).long(), sizes - 1)

    def _edges(self) -> list[int]:
        return [part * self.steps // self.count for part in range(self.count + 1)]
