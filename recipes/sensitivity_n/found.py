"""What was measured of one network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from aopc_monitor import MeanAndError


@dataclass(frozen=True)
class Found:
    """Correlations and heatmaps of one network.

    Attributes:
        sizes: the K numbers n of removed features.
        correlations: (N, K) by method; NaN where there is none.
        relevance: (N, H, W) or (N, T) by method.
        accuracy: on all test inputs, 0 to 1.
    """

    sizes: tuple[int, ...]
    correlations: Mapping[str, Tensor]
    relevance: Mapping[str, Tensor]
    accuracy: float

    def at(self, method: str, size: int) -> MeanAndError:
        """Mean correlation at one n, over the inputs that have one."""
        values = self.correlations[method][:, self.sizes.index(size)]
        return MeanAndError.of(values[~values.isnan()])

    def curve(self, method: str) -> list[MeanAndError]:
        """Mean correlation at each n."""
        return [self.at(method, size) for size in self.sizes]

    def mean(self, method: str) -> MeanAndError:
        """Over the n at which an input has a correlation, and then over inputs."""
        values = self.correlations[method].nanmean(dim=1)
        return MeanAndError.of(values[~values.isnan()])

    def difference(self, method: str, other: str) -> MeanAndError:
        """Of these means, input by input."""
        values = (self.correlations[method] - self.correlations[other]).nanmean(dim=1)
        return MeanAndError.of(values[~values.isnan()])

    def farthest_curves(self, method: str, other: str) -> float:
        """The largest distance of the two curves, at any n."""
        pairs = zip(self.curve(method), self.curve(other), strict=True)
        return max(abs(one.mean - two.mean) for one, two in pairs)

    def apart(self, method: str, other: str) -> float:
        """How far two heatmaps are apart: the mean over inputs of |a - b| as a share of |b|."""
        a, b = (self.relevance[name].flatten(1).double() for name in (method, other))
        return float(((a - b).norm(dim=1) / b.norm(dim=1)).mean())

    def alike(self, method: str, other: str) -> float:
        """Mean over inputs of the correlation of two heatmaps over features."""
        a, b = (self.relevance[name].flatten(1).double() for name in (method, other))
        a, b = (values - values.mean(dim=1, keepdim=True) for values in (a, b))
        return float(((a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1))).mean())
