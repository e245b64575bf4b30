"""Whether heatmaps of the same images stay what they were from one look to the next."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aopc_monitor.utilities.checks import are_finite
from aopc_monitor.utilities.statistics import accumulator_dtype


def heatmap_persistence(heatmaps: Tensor, earlier: Tensor) -> Tensor:
    """Rank correlation of each heatmap with an earlier one of the same image (Spearman 1904).

    Adebayo et al. 2018 compare heatmaps of one network with those of another in this way; between
    looks at a network in training the number is of this package. Both should explain the same
    class, such as that of the earlier look. It says how settled the evidence is, right or wrong.

    Args:
        heatmaps: (N, H, W), or those of another kind of input, `(N, *space)`; or relevances of
            regions (N, R), which are compared in steps as coarse as AOPC perturbs.
        earlier: of the same shape.

    Returns:
        (N,) from -1 to 1; equal values share their mean rank. NaN where one of the two is constant.

    Raises:
        TypeError: unless both are tensors of real numbers.
        ValueError: for shapes or devices that differ, no heatmap, NaN or infinite values.

    Example:
        >>> once = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]])
        >>> now = torch.tensor([[0.1, 0.2, 0.3, 9.0], [4.0, 3.0, 2.0, 1.0]])
        >>> heatmap_persistence(now, once)
        tensor([ 1., -1.], dtype=torch.float64)
    """
    _check(heatmaps, "heatmaps")
    _check(earlier, "earlier")
    if heatmaps.shape != earlier.shape or heatmaps.device != earlier.device:
        raise ValueError(
            f"earlier is {tuple(earlier.shape)} on {earlier.device}, heatmaps is "
            f"{tuple(heatmaps.shape)} on {heatmaps.device}; give two of each image, on one device"
        )
    now, before = _centred_ranks(heatmaps), _centred_ranks(earlier)
    lengths = now.square().sum(dim=1) * before.square().sum(dim=1)
    return (now * before).sum(dim=1) / lengths.sqrt()


def _centred_ranks(heatmaps: Tensor) -> Tensor:
    """(N, P) ranks, equal values at the middle of theirs, less their mean."""
    values = heatmaps.detach().flatten(1).contiguous()
    ordered = values.sort(dim=1).values
    below = torch.searchsorted(ordered, values)
    not_above = torch.searchsorted(ordered, values, right=True)
    # Twice the rank is whole, so that a constant heatmap has exactly zeros.
    return (below + not_above - values.shape[1]).to(accumulator_dtype(values.device))


def _check(heatmaps: Any, name: str) -> None:
    if not isinstance(heatmaps, Tensor) or heatmaps.is_complex() or heatmaps.dtype == torch.bool:
        came_in = heatmaps.dtype if isinstance(heatmaps, Tensor) else type(heatmaps).__name__
        raise TypeError(f"{name} is {came_in}; wanted is a tensor (N, H, W) of real numbers")
    if heatmaps.ndim < 2 or heatmaps.numel() == 0:
        raise ValueError(
            f"{name} has shape {tuple(heatmaps.shape)}; wanted is (N, H, W) or (N, R), at least one"
        )
    if not are_finite(heatmaps):
        raise ValueError(f"{name} holds NaN or infinite values, which have no rank")
