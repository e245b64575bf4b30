"""Which scores agree: rank correlations of what they say of the same heatmaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import torch
from scipy.stats import rankdata
from torch import Tensor

from aopc_monitor import MeanAndError
from recipes.compare_scores.scores import CONTROL, SCORES

# Of rank correlations of the means.
AGREE, CONTRADICT = 0.8, 0.0


@dataclass(frozen=True)
class Measured:
    """Every score of every heatmap.

    Attributes:
        heatmaps: their names, `CONTROL` among them.
        values: (N, heatmaps, scores), in the order of `SCORES`; NaN where one is undefined.
    """

    heatmaps: tuple[str, ...]
    values: Tensor

    def at(self, rows: Sequence[int]) -> Measured:
        """The same of some of the images."""
        return Measured(self.heatmaps, self.values[list(rows)])

    def of(self, heatmap: str, score: str) -> Tensor:
        """(N,) values of one score of one heatmap."""
        return self.values[:, self.heatmaps.index(heatmap), [*SCORES].index(score)]

    def estimate(self, heatmap: str, score: str) -> MeanAndError:
        """Over images."""
        values = self.of(heatmap, score)
        return MeanAndError.of(values[~values.isnan()])

    def lead(self, heatmap: str, score: str, other: str = CONTROL) -> MeanAndError:
        """How much better a heatmap is than another one, image by image; larger is better."""
        sign = 1 if SCORES[score].higher_is_better else -1
        values = sign * (self.of(heatmap, score) - self.of(other, score))
        return MeanAndError.of(values[~values.isnan()])

    @cached_property
    def merits(self) -> Tensor:
        """(N, heatmaps, scores) values, turned so that larger is always better."""
        signs = [1.0 if score.higher_is_better else -1.0 for score in SCORES.values()]
        return self.values * torch.tensor(signs, dtype=self.values.dtype)

    @cached_property
    def ranks(self) -> Tensor:
        """(heatmaps, scores) the place of each heatmap by its mean: 1 is the best."""
        return _ranks(-self.merits.nanmean(dim=0))

    @cached_property
    def by_place(self) -> list[str]:
        """Heatmaps by their mean place over all scores that ask the network, the best first."""
        asking = [score.replacement != "none" for score in SCORES.values()]
        places = self.ranks[:, asking].mean(dim=1)
        return [self.heatmaps[row] for row in places.argsort(stable=True).tolist()]

    @cached_property
    def without_control(self) -> Measured:
        """The heatmaps alone."""
        kept = [row for row, name in enumerate(self.heatmaps) if name != CONTROL]
        return Measured(tuple(self.heatmaps[row] for row in kept), self.values[:, kept])

    @cached_property
    def of_means(self) -> Tensor:
        """(scores, scores) Spearman of the heatmaps' means; 1 where two scores agree."""
        return _pearson(_ranks(self.merits.nanmean(dim=0)))

    @cached_property
    def within_images(self) -> Tensor:
        """(scores, scores) Spearman of the heatmaps of an image, averaged over images."""
        found = [_pearson(_ranks(of_image)) for of_image in self.merits]
        return torch.stack(found).nanmean(dim=0)

    def pairs(self) -> list[tuple[str, str, float, float]]:
        """Every two scores with both correlations, those that agree most first."""
        names = [*SCORES]
        found = [
            (names[a], names[b], float(self.of_means[a, b]), float(self.within_images[a, b]))
            for a, b in combinations(range(len(names)), 2)
        ]
        return sorted(found, key=lambda pair: -pair[2])


def _ranks(values: Tensor) -> Tensor:
    """Ranks down each column of (heatmaps, scores), ties in the middle; NaN where one is NaN."""
    return torch.from_numpy(rankdata(values.numpy(), axis=0, nan_policy="propagate"))


def _pearson(ranks: Tensor) -> Tensor:
    """(scores, scores) of (heatmaps, scores); NaN for a score that is the same for all."""
    centred = ranks - ranks.mean(dim=0)
    lengths = centred.square().sum(dim=0).sqrt()
    return centred.T @ centred / (lengths[:, None] * lengths)
