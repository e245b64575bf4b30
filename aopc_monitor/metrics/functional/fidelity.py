"""Fidelity by removing a random part of the relevant regions, or of the others (Zheng et al. 2025).

"F-Fidelity: A Robust Framework for Faithfulness Evaluation of Explainable AI", ICLR 2025, algorithm
1, asked of the network as it is: the paper first fine-tunes a copy on images with random removals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from aopc_monitor.metrics.functional.rationales import checked_shares, counts_of
from aopc_monitor.metrics.functional.removal import RemovalResult, Removed
from aopc_monitor.metrics.functional.removal_measures import removal_measures
from aopc_monitor.perturbation.replacements import Constant, Replacement
from aopc_monitor.perturbation.spans import Spans
from aopc_monitor.utilities.checks import check_positive
from aopc_monitor.utilities.configured import plain_value

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class FidelityPlusMeasure:
    """What `fidelity_plus` measures; see `removal_measures`.

    Attributes:
        shares: of the regions, the most relevant ones: sizes of the explanation.
        alpha: the probability that a region of it is removed.
        beta: the share of all regions that is removed at most, on average.
        draws: random removals of each size.
    """

    higher_is_better: ClassVar[bool] = True
    replacement: ClassVar[Replacement] = Constant(0.0)
    shares: Sequence[float] = SHARES
    alpha: float = 0.5
    beta: float = 0.1
    draws: int = 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", checked_shares(self.shares))
        check_positive("draws", self.draws)
        for name in ("alpha", "beta"):
            given = plain_value(getattr(self, name))
            if not isinstance(given, (int, float)) or not 0 < given <= 1:
                raise ValueError(f"{name}={given!r}: give a share above 0 and up to 1")
            object.__setattr__(self, name, given)

    def spans(self, numbers: Tensor) -> Spans:
        """The explanation of each size."""
        counts = counts_of(self.shares, numbers)
        return self._thinned(torch.zeros_like(counts), counts, numbers)

    def value(self, removed: Removed) -> Tensor:
        """(N,) how far the score falls, averaged over draws and sizes."""
        return removed.drops.mean(dim=1)

    def _thinned(self, first: Tensor, last: Tensor, numbers: Tensor) -> Spans:
        most = self.beta * numbers[:, None] / (last - first).clamp_min(1)
        return Spans(first, last, most.clamp_max(self.alpha))


@dataclass(frozen=True)
class FidelityMinusMeasure(FidelityPlusMeasure):
    """What `fidelity_minus` measures; see `removal_measures`.

    Attributes:
        shares: of the regions, the most relevant ones: sizes of the explanation.
        alpha: the probability that a region of the others is removed.
        beta: the share of all regions that is removed at most, on average.
        draws: random removals of each size.
    """

    higher_is_better: ClassVar[bool] = False

    def spans(self, numbers: Tensor) -> Spans:
        """All but the explanation of each size."""
        counts = counts_of(self.shares, numbers)
        return self._thinned(counts, numbers[:, None].expand_as(counts), numbers)


def fidelity_plus(
    model: nn.Module,
    images: Tensor | Mapping[str, Any],
    heatmaps: Tensor,
    *,
    shares: Sequence[float] = SHARES,
    alpha: float = 0.5,
    beta: float = 0.1,
    draws: int = 20,
    **choices: Any,
) -> RemovalResult:
    r"""How far the score falls when a random part of the explanation goes (Zheng et al. 2025).

    .. math:: \frac{1}{|B|} \sum_{b \in B} \mathbb{E}\left[ f(x) - f(\chi^+_b(x)) \right]

    where :math:`\chi^+_b` removes each region of the explanation, the share b of the R regions that
    is most relevant, with probability :math:`\min(\alpha, \beta R / s)` by itself, s being its
    size. So no more than a share :math:`\beta` of the image goes on average, and what is left is
    not far from images that the network knows. **Higher is better.**

    The paper asks a copy of the network that was fine-tuned on images of which up to
    :math:`\beta` is removed; here it is the network itself.

    Args:
        model: network that returns (N, classes); left as it was.
        images: (N, C, H, W), or inputs of another kind.
        heatmaps: (N, H, W).
        shares: B, sizes of the explanation; the paper takes 0.05 to 0.95.
        alpha: 0.5 in the paper.
        beta: 0.1 in the paper; 1 for none of it, which is the R-fidelity of Zheng et al. 2024.
        draws: random removals, 50 in the paper; each costs one forward per image and size.
        choices: those of `removal_measures`. Removed regions become 0 if no replacement is given.
            Of the paper, whose f is whether the label is predicted, with the labels as target:
            `score=lambda outputs, target: (outputs.argmax(dim=1) == target).float()`.

    Returns:
        A `RemovalResult` with `per_image` (N,), `mean`, `sem`, `scores` and `forwards`.

    Raises:
        TypeError, ValueError: see `removal_measures`.

    Example:
        >>> sums = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
        >>> sums[1].weight.data = torch.ones(1, 4)
        >>> image = torch.tensor([4.0, 3.0, 2.0, 1.0]).view(1, 1, 2, 2)
        >>> given = {"region_size": 1, "score": "value", "alpha": 1.0, "beta": 1.0}
        >>> fidelity_plus(sums, image, image[:, 0], shares=0.5, **given).per_image
        tensor([7.], dtype=torch.float64)
    """
    measures = [FidelityPlusMeasure(shares, alpha, beta, draws)]
    return removal_measures(model, images, heatmaps, measures, **choices)[0]


def fidelity_minus(
    model: nn.Module,
    images: Tensor | Mapping[str, Any],
    heatmaps: Tensor,
    *,
    shares: Sequence[float] = SHARES,
    alpha: float = 0.5,
    beta: float = 0.1,
    draws: int = 20,
    **choices: Any,
) -> RemovalResult:
    r"""How far the score falls when a random part of all but the explanation goes.

    As `fidelity_plus` (Zheng et al. 2025), but what is removed is not among the most relevant
    regions. **Lower is better.**

    Args:
        model: network that returns (N, classes); left as it was.
        images: (N, C, H, W), or inputs of another kind.
        heatmaps: (N, H, W).
        shares: B, sizes of the explanation.
        alpha: the probability that a region of the others is removed.
        beta: the share of all regions that is removed at most, on average.
        draws: random removals of each size.
        choices: those of `removal_measures`.

    Returns:
        A `RemovalResult` with `per_image` (N,), `mean`, `sem`, `scores` and `forwards`.

    Raises:
        TypeError, ValueError: see `removal_measures`.

    Example:
        >>> sums = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
        >>> sums[1].weight.data = torch.ones(1, 4)
        >>> image = torch.tensor([4.0, 3.0, 2.0, 1.0]).view(1, 1, 2, 2)
        >>> given = {"region_size": 1, "score": "value", "alpha": 1.0, "beta": 1.0}
        >>> fidelity_minus(sums, image, image[:, 0], shares=0.5, **given).per_image
        tensor([3.], dtype=torch.float64)
    """
    measures = [FidelityMinusMeasure(shares, alpha, beta, draws)]
    return removal_measures(model, images, heatmaps, measures, **choices)[0]
