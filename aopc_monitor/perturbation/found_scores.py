"""Room for the scores of perturbed images."""

from __future__ import annotations

import torch
from torch import Tensor

from aopc_monitor.utilities.statistics import accumulator_dtype


class Scores:
    """Room for the scores of all perturbed images, made when the first are known.

    Args:
        device: where they are kept.
        shape: how many there are.

    Attributes:
        found: `(*shape,)`, or `(*shape, D)` where a score has several numbers.
    """

    found: Tensor

    def __init__(self, device: torch.device, *shape: int) -> None:
        self._device, self._shape = device, shape

    def like(self, scores: Tensor) -> Tensor:
        """The room, for scores (M, ...) such as these."""
        if not hasattr(self, "found"):
            shape, dtype = (*self._shape, *scores.shape[1:]), accumulator_dtype(self._device)
            self.found = torch.empty(shape, dtype=dtype, device=self._device)
        return self.found
