"""How images are perturbed: the choices that an AOPC is measured under, checked in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aopc_monitor.perturbations import (
    DataRange,
    Replacement,
    data_range_tensors,
    get_replacement,
)
from aopc_monitor.regions import Grid
from aopc_monitor.scores import Score, check_score


@dataclass(frozen=True)
class PerturbationProtocol:
    """The choices that an AOPC is measured under; two AOPCs compare only if these are equal.

    Attributes:
        region_size: side m of the square regions in pixels.
        steps: L, how many regions are perturbed.
        data_range: (low, high) of valid inputs as the network sees them, numbers or one per
            channel; see `normalized_data_range`.
        replacement: "uniform", "blur", "mean", "constant", or a `Replacement`.
        repeats: independent draws of a random replacement.
        score: "probability", "logit", "log_probability", or (outputs, target) -> (N,).
        chunk_size: images per forward; 128 if not given, and fewer where memory is short.

    Raises:
        ValueError: for a value that no images could fit.
    """

    region_size: int
    steps: int
    data_range: DataRange | None
    replacement: str | Replacement = "uniform"
    repeats: int = 1
    score: Score = "probability"
    chunk_size: int | None = None

    def __post_init__(self) -> None:
        _check_positive("region_size", self.region_size)
        _check_positive("steps", self.steps)
        _check_positive("repeats", self.repeats)
        if self.chunk_size is not None:
            _check_positive("chunk_size", self.chunk_size)
        check_score(self.score)
        get_replacement(self.replacement)
        channels = max(
            (torch.as_tensor(bound).numel() for bound in self.data_range or ()), default=1
        )
        data_range_tensors(self.data_range, channels)

    def grid(self, images: Tensor) -> Grid:
        """The regions of these images.

        Raises:
            ValueError: if a region is larger than the image, or the steps are more than regions.
        """
        grid = Grid(images.shape[2], images.shape[3], self.region_size)
        if self.steps > grid.num_regions:
            raise ValueError(
                f"steps={self.steps} is more than the {grid.num_regions} regions of "
                f"{self.region_size} x {self.region_size} pixels that images of "
                f"{grid.height} x {grid.width} have: use at most that many steps, or smaller "
                "regions"
            )
        return grid

    def range_on(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The data range as two (C, 1, 1) tensors on the images' device."""
        low, high = data_range_tensors(self.data_range, images.shape[1])
        return low.to(images.device), high.to(images.device)


def _check_positive(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
