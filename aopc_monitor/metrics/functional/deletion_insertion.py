"""Deletion and insertion: the area under the curve of the score (Petsiuk et al. 2018).

"RISE: Randomized Input Sampling for Explanation of Black-box Models", section 4.1,
as the class `DeletionInsertionMetric` of torch-cam 0.5 carries them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aopc_monitor.metrics.functional.removal import RemovalResult, Removed
from aopc_monitor.metrics.functional.removal_measures import removal_measures
from aopc_monitor.perturbation.replacements import Constant, Replacement
from aopc_monitor.perturbation.spans import Spans
from aopc_monitor.utilities.checks import check_positive


@dataclass(frozen=True)
class DeletionMeasure:
    """What `deletion` measures; see `removal_measures`.

    Attributes:
        steps: how many parts the R regions are removed in, ceil(R / steps) at a time.
    """

    higher_is_better: ClassVar[bool] = False
    replacement: ClassVar[Replacement] = Constant(0.0)
    draws: ClassVar[int] = 0
    steps: int = 20

    def __post_init__(self) -> None:
        check_positive("steps", self.steps)

    def spans(self, numbers: Tensor) -> Spans:
        """The first regions of the order, more and more of them."""
        last = self.counts(numbers)[:, 1:]
        return Spans(torch.zeros_like(last), last)

    def value(self, removed: Removed) -> Tensor:
        """(N,) area under the curve, which begins with the clean image."""
        return self.area(torch.cat([removed.clean[:, None], removed.scores], dim=1), removed)

    def counts(self, numbers: Tensor) -> Tensor:
        """(N, S + 1) how many regions are removed: 0, ceil(R / steps), ... R.

        Example:
            >>> DeletionMeasure(steps=3).counts(torch.tensor([10]))
            tensor([[ 0,  4,  8, 10]])
        """
        parts = -(-numbers // self.steps)
        steps = torch.arange(int((-(-numbers // parts)).max()) + 1, device=numbers.device)
        return torch.minimum(steps * parts[:, None], numbers[:, None])

    def area(self, curves: Tensor, removed: Removed) -> Tensor:
        """(N,) area under curves (N, S + 1) over the share of regions, by trapezoids."""
        shares = self.counts(removed.numbers).to(curves) / removed.numbers[:, None]
        return torch.trapezoid(curves, shares, dim=1)


@dataclass(frozen=True)
class InsertionMeasure(DeletionMeasure):
    """What `insertion` measures; see `removal_measures`.

    Attributes:
        steps: how many parts the R regions are put back in, ceil(R / steps) at a time.
    """

    higher_is_better: ClassVar[bool] = True

    def spans(self, numbers: Tensor) -> Spans:
        """All but the first regions of the order, fewer and fewer of them."""
        first = self.counts(numbers)[:, :-1]
        return Spans(first, numbers[:, None].expand_as(first))

    def value(self, removed: Removed) -> Tensor:
        """(N,) area under the curve, which ends with the clean image."""
        return self.area(F.pad(removed.scores, (0, 1)) + _at_end(removed), removed)


def _at_end(removed: Removed) -> Tensor:
    """(N, S + 1) the clean scores in the last column, and else zeros."""
    return F.pad(removed.clean[:, None], (removed.scores.shape[1], 0))


def deletion(
    model: nn.Module,
    images: Tensor | Mapping[str, Any],
    heatmaps: Tensor,
    *,
    steps: int = 20,
    **choices: Any,
) -> RemovalResult:
    r"""Area under the score while the most relevant regions go (Petsiuk et al. 2018).

    .. math:: \sum_{k=1}^{S} \frac{c_k - c_{k-1}}{R}\, \frac{f(x^{(c_{k-1})}) + f(x^{(c_k)})}{2}

    with :math:`x^{(c)}` the image without its c most relevant of R regions and c = 0, ceil(R / S),
    ... R. **Lower is better.** It is AOPC seen from below, over the whole image: what the score was
    at first is part of it, so that networks of different confidence do not compare.

    Args:
        model: network that returns (N, classes); left as it was.
        images: (N, C, H, W), or inputs of another kind.
        heatmaps: (N, H, W).
        steps: S, in how many parts the regions go. torch-cam removes pixels: `region_size=1`.
        choices: those of `removal_measures`. Removed regions become 0 in the network's input
            space, the mean colour of normalised images, if no replacement is given.

    Returns:
        A `RemovalResult` with `per_image` (N,), `mean`, `sem`, `scores` and `forwards`.

    Raises:
        TypeError, ValueError: see `removal_measures`.

    Example:
        >>> sums = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
        >>> sums[1].weight.data = torch.ones(1, 4)
        >>> image = torch.tensor([4.0, 3.0, 2.0, 1.0]).view(1, 1, 2, 2)
        >>> deletion(sums, image, image[:, 0], steps=4, region_size=1, score="value").per_image
        tensor([3.7500], dtype=torch.float64)
    """
    return removal_measures(model, images, heatmaps, [DeletionMeasure(steps)], **choices)[0]


def insertion(
    model: nn.Module,
    images: Tensor | Mapping[str, Any],
    heatmaps: Tensor,
    *,
    steps: int = 20,
    **choices: Any,
) -> RemovalResult:
    r"""Area under the score while the most relevant regions come back (Petsiuk et al. 2018).

    As `deletion`, but of images that begin without all regions and are given back the most relevant
    ones first. **Higher is better.**

    Args:
        model: network that returns (N, classes); left as it was.
        images: (N, C, H, W), or inputs of another kind.
        heatmaps: (N, H, W).
        steps: in how many parts the regions come back.
        choices: those of `removal_measures`. Missing regions are 0 in the network's input space if
            no replacement is given, as in torch-cam; the paper inserts into a blurred image,
            `replacement="blur"`.

    Returns:
        A `RemovalResult` with `per_image` (N,), `mean`, `sem`, `scores` and `forwards`.

    Raises:
        TypeError, ValueError: see `removal_measures`.

    Example:
        >>> sums = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
        >>> sums[1].weight.data = torch.ones(1, 4)
        >>> image = torch.tensor([4.0, 3.0, 2.0, 1.0]).view(1, 1, 2, 2)
        >>> insertion(sums, image, image[:, 0], steps=4, region_size=1, score="value").per_image
        tensor([6.2500], dtype=torch.float64)
    """
    return removal_measures(model, images, heatmaps, [InsertionMeasure(steps)], **choices)[0]
