"""SaCo, the salience-guided faithfulness coefficient (Wu et al. 2024).

"On the Faithfulness of Vision Transformer Explanations", CVPR 2024, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from aopc_monitor.metrics.functional.removal import RemovalResult, Removed
from aopc_monitor.metrics.functional.removal_measures import removal_measures
from aopc_monitor.perturbation.replacements import Mean, Replacement
from aopc_monitor.perturbation.spans import Spans
from aopc_monitor.utilities.checks import check_positive

# The paper's.
GROUPS = 10


@dataclass(frozen=True)
class SaCoMeasure:
    """What `saco` measures; see `removal_measures`.

    Attributes:
        groups: K, how many groups the order of regions is cut into, at least 2.
    """

    higher_is_better: ClassVar[bool] = True
    replacement: ClassVar[Replacement] = Mean()
    draws: ClassVar[int] = 0
    groups: int = GROUPS

    def __post_init__(self) -> None:
        check_positive("groups", self.groups)
        if self.groups < 2:
            raise ValueError(f"groups={self.groups}: at least 2 are compared with each other")

    def spans(self, numbers: Tensor) -> Spans:
        """The groups, which differ by one region in size where R is no multiple of K.

        Raises:
            ValueError: for an input of fewer regions than groups.
        """
        if (numbers < self.groups).any():
            raise ValueError(
                f"groups={self.groups} is more than the {int(numbers.min())} regions of an input: "
                "give fewer groups, or smaller regions"
            )
        edges = torch.arange(self.groups + 1, device=numbers.device) * numbers[:, None]
        edges = edges // self.groups
        return Spans(edges[:, :-1], edges[:, 1:])

    def value(self, removed: Removed) -> Tensor:
        """(N,) the coefficient; 0 where the heatmap tells no group from another."""
        i, j = torch.triu_indices(self.groups, self.groups, 1, device=removed.clean.device)
        weights = removed.relevance[:, i] - removed.relevance[:, j]
        holds = removed.drops[:, i] >= removed.drops[:, j]
        sums = torch.where(holds, weights, -weights).sum(dim=1)
        whole = weights.abs().sum(dim=1)
        return torch.where(whole > 0, sums / torch.where(whole > 0, whole, 1), 0)


def saco(
    model: nn.Module,
    images: Tensor | Mapping[str, Any],
    heatmaps: Tensor,
    *,
    groups: int = GROUPS,
    **choices: Any,
) -> RemovalResult:
    r"""Whether groups of greater relevance have the greater effect (Wu et al. 2024).

    The order of regions is cut into K groups :math:`G_1 \ldots G_K`, each of which is replaced by
    itself. With the relevance :math:`s(G)` of a group and its effect
    :math:`\nabla(G) = f(x) - f(x \text{ without } G)`

    .. math::

        \frac{\sum_{i<j} w_{ij}}{\sum_{i<j} |w_{ij}|}, \qquad
        w_{ij} = \pm\, (s(G_i) - s(G_j)), \quad + \text{ where } \nabla(G_i) \ge \nabla(G_j)

    From -1, each pair is the wrong way round, to 1. **Higher is better.** Amounts of relevance
    count, in any unit; of effects only which one is greater. Relevance of a group is here the mean
    over its regions: where all groups have as many, that of the paper's sum. A constant heatmap has
    0, for the paper defines none.

    Args:
        model: network that returns (N, classes); left as it was.
        images: (N, C, H, W), or inputs of another kind.
        heatmaps: (N, H, W).
        groups: K, 10 in the paper, whose regions are pixels: `region_size=1`.
        choices: those of `removal_measures`. Removed regions become the image's own mean colour if
            no replacement is given, as in the paper, and vectors of zeros in texts.

    Returns:
        A `RemovalResult` with `per_image` (N,), `mean`, `sem`, `scores` and `forwards`.

    Raises:
        TypeError, ValueError: see `removal_measures`; also for an input of fewer regions than
            groups.

    Example:
        >>> sums = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
        >>> sums[1].weight.data = torch.ones(1, 4)
        >>> image = torch.tensor([4.0, 3.0, 2.0, 1.0]).view(1, 1, 2, 2)
        >>> given = {"groups": 4, "region_size": 1, "score": "value"}
        >>> [float(saco(sums, image, of, **given).mean) for of in (image[:, 0], -image[:, 0])]
        [1.0, -1.0]
    """
    return removal_measures(model, images, heatmaps, [SaCoMeasure(groups)], **choices)[0]
