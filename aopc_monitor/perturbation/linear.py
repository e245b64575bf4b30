"""Perturbed steps of a series that follow from the ends of the stretch that they are in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aopc_monitor.perturbation.input_kinds import InputKind


@dataclass(frozen=True)
class Linear:
    """A straight line between the ends, for series: the last value before and the first after.

    Windows that lie side by side are one stretch, with one line, so that nothing is left of what
    was between them. A stretch that reaches the start or the end of the series keeps the one value
    that is known; where nothing is, the mean of the channel. Each channel has lines of its own.

    Example:
        >>> series = torch.tensor([[[0.0, 9.0, 9.0, 3.0, 9.0]]])
        >>> replacement, ends = Linear(), torch.zeros(1, 1)
        >>> mean = replacement(series, ends, ends, torch.Generator())
        >>> replacement.impute(series, series == 9, mean, ends, ends)
        tensor([[[0., 1., 2., 3., 3.]]])
    """

    is_random: ClassVar[bool] = False
    fresh_each_step: ClassVar[bool] = False
    needs_data_range: ClassVar[bool] = False

    @staticmethod
    def suits(kind: InputKind) -> bool:
        """Series alone have two ends."""
        return kind.name == "series"

    def __call__(
        self, images: Tensor, low: Tensor, high: Tensor, generator: torch.Generator
    ) -> Tensor:
        """(M, C, L) the mean of each channel, where no step is known."""
        return images.mean(dim=2, keepdim=True).expand_as(images)

    def impute(
        self, images: Tensor, perturbed: Tensor, replaced: Tensor, low: Tensor, high: Tensor
    ) -> Tensor:
        """Series (M, C, L) with lines where (M, 1, L) says so; see `Imputation`."""
        steps, length = torch.arange(images.shape[2], device=images.device), images.shape[2]
        known = ~perturbed
        # The nearest known step on each side; -1 and the length where there is none.
        before = torch.where(known, steps, -1).cummax(dim=2).values
        after = torch.where(known, steps, length).flip(2).cummin(dim=2).values.flip(2)
        none_known = (before < 0) & (after == length)
        left = torch.where(before < 0, after, before).clamp_max(length - 1).expand(images.shape)
        right = torch.where(after == length, before, after).clamp_min(0).expand(images.shape)
        work = images.to(torch.promote_types(images.dtype, torch.float32))
        start, end = work.gather(2, left), work.gather(2, right)
        share = (steps - left) / (right - left).clamp_min(1)
        line = (start + (end - start) * share.to(work.dtype)).to(images.dtype)
        made = torch.where(none_known, replaced.to(images.dtype), line)
        return torch.where(perturbed, made, images)
