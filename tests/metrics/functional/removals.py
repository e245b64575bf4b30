"""Removals written as they stand, one input and one removal at a time: the oracle."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from aopc_monitor.perturbation import kind_of
from aopc_monitor.perturbation.regions import Grid
from tests.metrics.functional.test_kinds import SHAPES, inputs_of, network
from tests.reference import Places, regions_of, sequence

# A function from removed regions to the score of an input without them.
Score = Callable[[Collection[int]], float]


class Case:
    """Inputs of a kind, heatmaps without ties, and for each the score without some regions."""

    def __init__(self, kind: str, replaced: Callable[[Tensor], Tensor] = torch.zeros_like) -> None:
        self.inputs, self.region_size = inputs_of(kind), SHAPES[kind][1]
        self.model: nn.Module = network(self.inputs)
        space = kind_of(self.inputs).locations(self.inputs)
        generator = torch.Generator().manual_seed(4)
        self.heatmaps = torch.randn(space, generator=generator, dtype=torch.float64)
        size = 1 if self.region_size is None else self.region_size
        self.places: Places = regions_of(Grid(space[1:], size))
        self._replaced = replaced(self.inputs)

    @property
    def regions(self) -> int:
        return len(self.places)

    def relevance(self, n: int) -> list[float]:
        """Of each region of an input."""
        return [float(self.heatmaps[n][place].mean()) for place in self.places]

    def order(self, n: int) -> list[int]:
        """Regions of an input, the most relevant first."""
        return sequence(self.heatmaps[n], self.places, "morf", torch.zeros(self.regions))

    def score(self, n: int) -> Score:
        """The probability of the predicted class of an input without some regions."""
        x = self.inputs[n]
        target = int(self.model(x[None]).argmax())

        def without(regions: Collection[int]) -> float:
            perturbed = x.clone()
            for region in regions:
                place = (..., *self.places[region])
                perturbed[place] = self._replaced[n][place]
            return float(self.model(perturbed[None]).softmax(1)[0, target])

        return without

    def by_loop(self, value: Callable[[Score, list[int], int], float]) -> Tensor:
        """(N,) a measure of each input, made of its score, its order and its number."""
        with torch.no_grad():
            found = [value(self.score(n), self.order(n), n) for n in range(len(self.inputs))]
        return torch.tensor(found, dtype=torch.float64)
