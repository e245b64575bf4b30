"""Photographs made worse in four ways and five severities, by torchvision."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

SEVERITIES = (1, 2, 3, 4, 5)

# One value per severity.
_NOISE = (0.04, 0.08, 0.12, 0.18, 0.26)  # standard deviation, in units of the 0..1 range
_BLUR = (0.5, 0.7, 1.0, 1.4, 2.0)  # standard deviation in pixels of an image 32 pixels high
_CONTRAST = (0.75, 0.5, 0.35, 0.25, 0.15)  # share of the contrast that is left
_JPEG = (50, 30, 20, 12, 7)  # quality, 1 to 100


def _noise(images: Tensor, severity: int) -> Tensor:
    noisy = transforms.gaussian_noise(images.float() / 255, sigma=_NOISE[severity - 1])
    return (noisy * 255).round().to(torch.uint8)


def _blur(images: Tensor, severity: int) -> Tensor:
    # An image twice as large loses as much by a blur twice as wide.
    sigma = _BLUR[severity - 1] * images.shape[-2] / 32
    return transforms.gaussian_blur(images, [2 * math.ceil(3 * sigma) + 1] * 2, [sigma, sigma])


def _contrast(images: Tensor, severity: int) -> Tensor:
    return transforms.adjust_contrast(images, _CONTRAST[severity - 1])


def _jpeg(images: Tensor, severity: int) -> Tensor:
    return transforms.jpeg(images, _JPEG[severity - 1])


CORRUPTIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "JPEG": _jpeg,
}


def corrupted(images: Tensor, corruption: str, severity: int, seed: int = 0) -> Tensor:
    """The images under one corruption.

    Args:
        images: uint8 (N, 3, H, W).
        corruption: "noise" (Gaussian), "blur" (Gaussian), "contrast" (lowered towards the mean
            grey), or "JPEG" (compression).
        severity: 1 to 5.
        seed: of the noise.

    Returns:
        uint8 (N, 3, H, W), always the same for the same arguments.

    Raises:
        ValueError: for an unknown corruption or severity, or images that are not bytes.

    Example:
        >>> grey = torch.full((2, 3, 16, 16), 100, dtype=torch.uint8)
        >>> [round(float(corrupted(grey, "noise", k).float().std())) for k in (1, 5)]
        [10, 63]
    """
    if corruption not in CORRUPTIONS:
        raise ValueError(f"corruption must be one of {', '.join(CORRUPTIONS)}; got {corruption!r}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity must be one of {SEVERITIES}; got {severity!r}")
    if images.dtype != torch.uint8:
        raise ValueError(f"images are {images.dtype}; give them as uint8, before normalisation")
    # torchvision draws from the global generator alone.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CORRUPTIONS[corruption](images, severity)
