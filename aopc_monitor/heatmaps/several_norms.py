"""Heatmaps that differ in nothing but the norm over channels: of one backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from aopc_monitor.heatmaps.base import BackwardHeatmap, Heatmap, NetworkHeatmap, NormHeatmap
from aopc_monitor.heatmaps.deconvolution import Deconvolution, GuidedBackpropagation
from aopc_monitor.heatmaps.engine.backward_pass import BackwardPass
from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules
from aopc_monitor.heatmaps.gradients import Sensitivity
from aopc_monitor.heatmaps.pooling import pooled

# The norm of these decides on the pooling alone; what a class derived from one does, only it knows.
_KINDS: tuple[type[NormHeatmap], ...] = (Sensitivity, Deconvolution, GuidedBackpropagation)


@dataclass(frozen=True)
class SeveralNorms(BackwardHeatmap):
    """A heatmap under several norms, side by side: (N, K, H, W).

    Attributes:
        heatmap: the heatmap, whose own norm is not looked at.
        norms: K of "l2" and "linf".

    Example:
        >>> from aopc_monitor.heatmaps import Sensitivity
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
        >>> SeveralNorms(Sensitivity(), ("l2", "linf"))(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 2, 8, 8])
    """

    heatmap: NormHeatmap
    norms: tuple[str, ...]

    def backward_rules(self, images: Tensor) -> BackwardRules | None:
        """Those of the heatmap."""
        return self.heatmap.backward_rules(images)

    def pool(self, images: Tensor, result: BackwardPass) -> Tensor:
        """Each norm over channels."""
        return torch.stack([pooled(result.signal, norm) for norm in self.norms], dim=1)


def in_passes(heatmaps: Sequence[Heatmap]) -> list[tuple[Heatmap, list[int]]]:
    """What to make these heatmaps with: each with the places of those that it makes at once.

    Example:
        >>> from aopc_monitor.heatmaps import GradientTimesInput, Sensitivity
        >>> given = [Sensitivity(norm="linf"), GradientTimesInput(), Sensitivity()]
        >>> for heatmap, places in in_passes(given):
        ...     print(places, heatmap)
        [0, 2] SeveralNorms(heatmap=Sensitivity(norm='linf'), norms=('linf', 'l2'))
        [1] GradientTimesInput()
    """
    groups: list[list[int]] = []
    for place, heatmap in enumerate(heatmaps):
        alike = (group for group in groups if _share_a_pass(heatmaps[group[0]], heatmap))
        group = next(alike, None)
        if group is None:
            groups.append([place])
        else:
            group.append(place)
    return [(_at_once([heatmaps[place] for place in group]), group) for group in groups]


def maps_in(relevance: Tensor, heatmap: Heatmap) -> list[Tensor]:
    """The heatmaps (N, H, W) in what one of `in_passes` returned."""
    if not isinstance(heatmap, SeveralNorms):
        return [relevance]
    return [one.contiguous() for one in relevance.unbind(dim=1)]


def _share_a_pass(one: Heatmap, other: Heatmap) -> bool:
    if type(one) not in _KINDS or type(other) is not type(one):
        return False
    return all(getattr(one, name) is getattr(other, name) for name in _how(one))


def _at_once(heatmaps: list[Heatmap]) -> Heatmap:
    first, *others = heatmaps
    if not others or not isinstance(first, NormHeatmap):
        return first
    norms = tuple(one.norm for one in heatmaps if isinstance(one, NormHeatmap))
    return SeveralNorms(first, norms, **_how(first))


def _how(heatmap: Heatmap) -> dict[str, Any]:
    """What else they are given, by its name."""
    return {each.name: getattr(heatmap, each.name) for each in fields(NetworkHeatmap)}
