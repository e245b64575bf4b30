"""Which floating-point type sums are kept in."""

from __future__ import annotations

import torch


def accumulator_dtype(device: torch.device) -> torch.dtype:
    """Type for sums and means on a device: float64, or float32 where float64 does not exist."""
    return torch.float32 if device.type == "mps" else torch.float64
