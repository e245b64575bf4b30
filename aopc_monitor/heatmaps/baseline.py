"""The image that a heatmap measures differences from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

Baseline: TypeAlias = "float | Sequence[float] | Tensor"


def baseline_images(baseline: Baseline, images: Tensor) -> Tensor:
    """The baseline as (N, C, H, W).

    Args:
        baseline: a number, one number per channel, or a (C, H, W) tensor, in the network's input
            space.
        images: (N, C, H, W).

    Raises:
        ValueError: if it fits neither.

    Example:
        >>> baseline_images([0.0, 1.0], torch.rand(2, 2, 4, 4))[0, :, 0, 0]
        tensor([0., 1.])
    """
    values = torch.as_tensor(baseline, dtype=images.dtype, device=images.device)
    if values.ndim == 1 and len(values) == images.shape[1]:
        values = values[:, None, None]
    if values.ndim not in (0, 3) or (values.ndim == 3 and values.shape[0] != images.shape[1]):
        raise ValueError(
            f"baseline has shape {tuple(values.shape)} for images of shape {tuple(images.shape)}: "
            f"give a number, {images.shape[1]} numbers, or a tensor {tuple(images.shape[1:])}"
        )
    if values.ndim == 3 and values.shape[1:] not in (images.shape[2:], (1, 1)):
        raise ValueError(
            f"baseline is {values.shape[1]} x {values.shape[2]} pixels, images are "
            f"{images.shape[2]} x {images.shape[3]}"
        )
    return values.expand_as(images)
