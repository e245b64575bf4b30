"""Sums over images: the type that they are kept in, and the error that follows from them."""

from __future__ import annotations

import torch
from torch import Tensor


def accumulator_dtype(device: torch.device) -> torch.dtype:
    """Type for sums and means on a device: float64, or float32 where float64 does not exist."""
    return torch.float32 if device.type == "mps" else torch.float64


def standard_error(count: Tensor, total: Tensor, total_of_squares: Tensor) -> Tensor:
    """Standard error of a mean, from sums; NaN for a single value, which has none.

    Example:
        >>> values = torch.tensor([1.0, 2.0, 6.0])
        >>> standard_error(torch.tensor(3), values.sum(), values.square().sum())
        tensor(1.5275)
    """
    variance = (total_of_squares / count - (total / count).square()).clamp_min(0)
    return (variance / (count - 1)).sqrt()
