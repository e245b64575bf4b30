"""Comprehensiveness and sufficiency of the most relevant regions (DeYoung et al. 2020).

"ERASER: A Benchmark to Evaluate Rationalized NLP Models", section 4.2. A rationale there is the set
of words that a heatmap calls most relevant; here it is regions of an input of any kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from aopc_monitor.metrics.functional.removal import RemovalResult, Removed
from aopc_monitor.metrics.functional.removal_measures import removal_measures
from aopc_monitor.perturbation.replacements import Constant, Replacement
from aopc_monitor.perturbation.spans import Spans
from aopc_monitor.utilities.configured import plain_value

# The shares of the benchmark.
SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
# A share of regions that is a whole number of them shall not be one more by a rounding error.
_SLACK = 1e-9


@dataclass(frozen=True)
class ComprehensivenessMeasure:
    """What `comprehensiveness` measures; see `removal_measures`.

    Attributes:
        shares: of the regions, the most relevant ones; at least one region each.
    """

    higher_is_better: ClassVar[bool] = True
    replacement: ClassVar[Replacement] = Constant(0.0)
    draws: ClassVar[int] = 0
    shares: Sequence[float] = SHARES

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", checked_shares(self.shares))

    def spans(self, numbers: Tensor) -> Spans:
        """The rationale of each share."""
        counts = counts_of(self.shares, numbers)
        return Spans(torch.zeros_like(counts), counts)

    def value(self, removed: Removed) -> Tensor:
        """(N,) how far the score falls, averaged over the shares."""
        return removed.drops.mean(dim=1)


@dataclass(frozen=True)
class SufficiencyMeasure(ComprehensivenessMeasure):
    """What `sufficiency` measures; see `removal_measures`.

    Attributes:
        shares: of the regions, the most relevant ones; at least one region each.
    """

    higher_is_better: ClassVar[bool] = False

    def spans(self, numbers: Tensor) -> Spans:
        """All but the rationale of each share."""
        counts = counts_of(self.shares, numbers)
        return Spans(counts, numbers[:, None].expand_as(counts))


def checked_shares(shares: Any) -> tuple[float, ...]:
    """Shares above 0 and up to 1.

    Raises:
        ValueError: for others, or none.
    """
    given = plain_value(shares)
    given = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    are_numbers = all(isinstance(share, (int, float)) and isfinite(share) for share in given)
    if not given or not are_numbers or not all(0 < share <= 1 for share in given):
        raise ValueError(
            f"shares={shares!r}: give numbers above 0 and up to 1, the shares of an input's regions"
        )
    return given


def counts_of(shares: Sequence[float], numbers: Tensor) -> Tensor:
    """(N, S) how many of R regions (N,) a share is, rounded up.

    Example:
        >>> counts_of((0.01, 0.1, 0.5), torch.tensor([30]))
        tensor([[ 1,  3, 15]])
    """
    counts = [
        [max(1, -int(-(share * n - _SLACK) // 1)) for share in shares] for n in numbers.tolist()
    ]
    return torch.tensor(counts, device=numbers.device)


def comprehensiveness(
    model: nn.Module,
    images: Tensor | Mapping[str, Any],
    heatmaps: Tensor,
    *,
    shares: Sequence[float] = SHARES,
    **choices: Any,
) -> RemovalResult:
    r"""How far the score falls without the most relevant regions (DeYoung et al. 2020, eq. 1).

    .. math:: \frac{1}{|B|} \sum_{b \in B} f(x) - f(x \setminus r_b)

    with :math:`r_b` the share b of the regions that is most relevant. **Higher is better.** The
    mean over the shares is that of the benchmark's own code; the paper divides the same sum by one
    more than there are shares. It is AOPC at a few steps, which are shares of the image.

    Args:
        model: network that returns (N, classes); left as it was.
        images: (N, C, H, W), or inputs of another kind; the benchmark's are texts.
        heatmaps: (N, H, W).
        shares: B, above 0 and up to 1.
        choices: those of `removal_measures`. Removed regions become 0 if no replacement is given,
            and vectors of zeros in texts.

    Returns:
        A `RemovalResult` with `per_image` (N,), `mean`, `sem`, `scores` and `forwards`.

    Raises:
        TypeError, ValueError: see `removal_measures`.

    Example:
        >>> sums = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
        >>> sums[1].weight.data = torch.ones(1, 4)
        >>> image = torch.tensor([4.0, 3.0, 2.0, 1.0]).view(1, 1, 2, 2)
        >>> given = {"shares": (0.25, 0.5), "region_size": 1, "score": "value"}
        >>> comprehensiveness(sums, image, image[:, 0], **given).per_image
        tensor([5.5000], dtype=torch.float64)
    """
    measures = [ComprehensivenessMeasure(shares)]
    return removal_measures(model, images, heatmaps, measures, **choices)[0]


def sufficiency(
    model: nn.Module,
    images: Tensor | Mapping[str, Any],
    heatmaps: Tensor,
    *,
    shares: Sequence[float] = SHARES,
    **choices: Any,
) -> RemovalResult:
    r"""How far the score falls with nothing but the most relevant regions (DeYoung et al. 2020).

    .. math:: \frac{1}{|B|} \sum_{b \in B} f(x) - f(r_b)

    as in `comprehensiveness`, eq. 2 of the paper. **Lower is better**; below 0 the network is surer
    of the rationale than of the input.

    Args:
        model: network that returns (N, classes); left as it was.
        images: (N, C, H, W), or inputs of another kind; the benchmark's are texts.
        heatmaps: (N, H, W).
        shares: B, above 0 and up to 1.
        choices: those of `removal_measures`.

    Returns:
        A `RemovalResult` with `per_image` (N,), `mean`, `sem`, `scores` and `forwards`.

    Raises:
        TypeError, ValueError: see `removal_measures`.

    Example:
        >>> sums = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
        >>> sums[1].weight.data = torch.ones(1, 4)
        >>> image = torch.tensor([4.0, 3.0, 2.0, 1.0]).view(1, 1, 2, 2)
        >>> given = {"shares": (0.25, 0.5), "region_size": 1, "score": "value"}
        >>> sufficiency(sums, image, image[:, 0], **given).per_image
        tensor([4.5000], dtype=torch.float64)
    """
    return removal_measures(model, images, heatmaps, [SufficiencyMeasure(shares)], **choices)[0]
