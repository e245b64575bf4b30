"""Claims of Samek et al. 2017 on which heatmap is better, and whether they hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from aopc_monitor import MeanAndError
from recipes.shared.heatmap_study import FAMILIES, family
from recipes.shared.reporting.markdown import markdown_table, z_text

# Standard errors: a difference below that many may be chance.
CHANCE = 2.0
BEST = "lrp_epsilon_1"


@dataclass(frozen=True)
class Claim:
    """Each of some heatmaps has a larger AOPC than each of others.

    Attributes:
        text: what is claimed.
        where: in the paper.
        better: a heatmap, or one of `FAMILIES`.
        worse: the same.
    """

    text: str
    where: str
    better: str
    worse: str

    def differences(self, areas: Mapping[str, Tensor]) -> list[MeanAndError]:
        """Paired differences of all pairs that the claim is about.

        Args:
            areas: AOPC of each image (N,) by heatmap.
        """
        better, worse = _members(self.better, areas), _members(self.worse, areas)
        return [
            MeanAndError.of(areas[one] - areas[other])
            for one in better
            for other in worse
            if one != other
        ]


CLAIMS = (
    Claim("LRP-epsilon 1 is better than sensitivity", "Fig. 4", BEST, "sensitivity"),
    Claim("every LRP tried is better than sensitivity", "Fig. 4", "lrp", "sensitivity"),
    Claim("LRP-epsilon 1 is better than deconvolution", "Fig. 4", BEST, "deconvolution"),
    Claim("every LRP tried is better than deconvolution", "Fig. 4", "lrp", "deconvolution"),
    Claim("LRP-epsilon 1 is better than a random order", "Fig. 4", BEST, "random"),
    Claim("LRP-epsilon 1 is the best of the LRPs tried", "appendix, Fig. 8", BEST, "lrp"),
    Claim("deconvolution is better than sensitivity", "Fig. 4", "deconvolution", "sensitivity"),
    Claim("deconvolution is better than a random order", "Fig. 4", "deconvolution", "random"),
    Claim(
        "sensitivity is better than a random order",
        "Fig. 4, but for one of three sets",
        "sensitivity",
        "random",
    ),
)


def claims_table(areas: Mapping[int, Mapping[str, Tensor]]) -> str | None:
    """For each claim and region size, whether it holds, and its z; in Markdown.

    Claims about heatmaps that were not measured are left out; None if no claim is left.

    Args:
        areas: AOPC of each image (N,) by region size in pixels and by heatmap.
    """
    measured = next(iter(areas.values()))
    rows = [
        [claim.text, claim.where, *(verdict(claim.differences(areas[size])) for size in areas)]
        for claim in CLAIMS
        if claim.differences(measured)
    ]
    if not rows:
        return None
    return markdown_table(["claim", "where", *(f"{size} x {size}" for size in areas)], rows)


def verdict(differences: Sequence[MeanAndError]) -> str:
    """Whether all differences are above zero by more than chance, and the least z of them.

    Example:
        >>> verdict([MeanAndError(0.3, 0.1), MeanAndError(0.5, 0.1)])
        'yes, 3.0'
        >>> verdict([MeanAndError(0.1, 0.1)]), verdict([MeanAndError(-0.5, 0.1)])
        ('open, 1.0', 'no, -5.0')
        >>> verdict([MeanAndError(0.1, math.nan), MeanAndError(0.5, 0.1)])  # of a single image
        'open'
    """
    least = min(differences, key=lambda difference: difference.z)
    if any(math.isnan(difference.z) for difference in differences):
        return "open"
    if abs(least.z) < CHANCE:
        return f"open, {z_text(least)}"
    return f"{'yes' if least.z > 0 else 'no'}, {z_text(least)}"


def _members(name: str, areas: Mapping[str, Tensor]) -> list[str]:
    # A family goes first, because one of the heatmaps of LRP has the name of its family.
    if name in FAMILIES:
        return [one for one in areas if family(one) == name]
    return [name] if name in areas else []
