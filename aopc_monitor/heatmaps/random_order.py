"""Heatmaps that know nothing of the network, to compare the others with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from aopc_monitor.perturbation.input_kinds import checked_inputs, kind_of
from aopc_monitor.utilities.randomness import generator_for


@dataclass(frozen=True)
class RandomOrder:
    """Uniform random relevance: the random-order baseline of Samek et al. 2017, Fig. 4.

    Attributes:
        seed: the same batch of images gets the same relevance under the same seed.

    Example:
        >>> RandomOrder(seed=1)(nn.Identity(), torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """

    # Tells callers that it needs no vectors of a text, whose words keep their order in a training.
    asks_model: ClassVar[bool] = False

    seed: int = 0

    def __call__(self, model: nn.Module, images: Tensor, target: Tensor | None = None) -> Tensor:
        """`(N, *space)` numbers from 0 to 1; model and target are not looked at."""
        images = checked_inputs(images)
        generator = generator_for(images, self.seed, purpose="random order")
        shape = kind_of(images).locations(images)
        return torch.rand(shape, generator=generator, device=images.device, dtype=torch.float32)
