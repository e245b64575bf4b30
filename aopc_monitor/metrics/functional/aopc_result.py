"""What one evaluation of a batch found, and the means over its images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aopc_monitor.utilities.statistics import accumulator_dtype, error_of_mean


@dataclass(frozen=True)
class AOPCResult:
    """What one evaluation of a batch found.

    Attributes:
        per_image: (N,) area over each image's curve: 1/(L+1) * sum over k of f(x^(0)) - f(x^(k)).
            Where several classes of an image are explained, the mean of their areas; NaN where none
            is.
        curves: (N, L+1) perturbation curve f(x^(0)) ... f(x^(L)) of each image, averaged over
            repeats, and over the classes that are explained; NaN at steps that were not evaluated.
        target: (N,) the explained classes, or the truth values (N, K) or what else was given.
        forwards: number of images that went through the network. Results that were computed
            together share them.
        survival: (N,) share of x^(1) ... x^(L) that are predicted as x^(0) was; None where it was
            not asked for.
    """

    per_image: Tensor
    curves: Tensor
    target: Tensor
    forwards: int
    survival: Tensor | None = None

    @classmethod
    def of_nothing(cls, target: Tensor, steps: int) -> AOPCResult:
        """The result of images whose targets (N, K) name no class at all."""
        dtype = accumulator_dtype(target.device)
        curves = torch.full((len(target), steps + 1), torch.nan, dtype=dtype, device=target.device)
        return cls(curves[:, 0], curves, target, len(target))

    @property
    def relative(self) -> Tensor:
        """(N,) `per_image` as a share of f(x^(0)), the score that there was to lose."""
        return self.per_image / self.curves[:, 0]

    @property
    def curve(self) -> Tensor:
        """(L+1,) mean perturbation curve over the images that each step was evaluated for."""
        return self.curves.nanmean(dim=0)

    @property
    def mean(self) -> Tensor:
        """Scalar AOPC, eq. 12, over the images of which a class is explained."""
        return self._of_explained.mean()

    @property
    def sem(self) -> Tensor:
        """Scalar standard error of the mean over images; NaN for a single image."""
        return error_of_mean(self._of_explained)

    @property
    def left_out(self) -> int:
        """Number of images of which no class is explained, since their target names none."""
        return int(self.per_image.isnan().sum())

    @property
    def _of_explained(self) -> Tensor:
        return self.per_image[~self.per_image.isnan()]
