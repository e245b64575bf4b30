"""The image that a heatmap measures differences from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from aopc_monitor.heatmaps.pooling import per_channel
from aopc_monitor.perturbation.input_kinds import kind_of

Baseline: TypeAlias = "float | Sequence[float] | Tensor"


def baseline_images(baseline: Baseline, images: Tensor) -> Tensor:
    """The baseline as large as the images.

    Args:
        baseline: a number, one number per channel (of tables: per feature), or a `(C, *space)`
            tensor, in the network's input space.
        images: (N, C, H, W), or inputs of another kind.

    Raises:
        ValueError: if it fits neither.

    Example:
        >>> baseline_images([0.0, 1.0], torch.rand(2, 2, 4, 4))[0, :, 0, 0]
        tensor([0., 1.])
        >>> baseline_images([0.0, 1.0], torch.rand(1, 2))
        tensor([[0., 1.]])
    """
    values = torch.as_tensor(baseline, dtype=images.dtype, device=images.device)
    if values.ndim == 1 and len(values) == images.shape[1]:
        values = per_channel(values, images)
    one_per_channel = (images.shape[1], *[1] * (images.ndim - 2))
    if values.ndim and values.shape not in (images.shape[1:], one_per_channel):
        raise ValueError(
            f"baseline has shape {tuple(values.shape)} for {kind_of(images).name} of shape "
            f"{tuple(images.shape)}: give a number, {_numbers(images)}"
        )
    return values.expand_as(images)


def _numbers(images: Tensor) -> str:
    counted, alone = f"{images.shape[1]} numbers", not kind_of(images).has_channels
    return counted if alone else f"{counted}, or a tensor {tuple(images.shape[1:])}"
