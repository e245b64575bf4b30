"""Photographs made worse in four ways and in six others, at five severities each."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

SEVERITIES = (1, 2, 3, 4, 5)

# One value per severity.
_NOISE = (0.04, 0.08, 0.12, 0.18, 0.26)  # standard deviation, in units of the 0..1 range
_BLUR = (0.5, 0.7, 1.0, 1.4, 2.0)  # standard deviation in pixels of an image 32 pixels high
_CONTRAST = (0.75, 0.5, 0.35, 0.25, 0.15)  # share of the contrast that is left
_JPEG = (50, 30, 20, 12, 7)  # quality, 1 to 100
_DARKNESS = (0.75, 0.5, 0.35, 0.22, 0.12)  # share of the brightness that is left
_PIXELS = (0.75, 0.5, 0.375, 0.25, 0.1875)  # share of the height that is left in pixels
_COVERED = (0.25, 0.375, 0.5, 0.625, 0.75)  # side of a grey square, as a share of the image's
_ROTATION = (6, 12, 20, 30, 45)  # degrees
_FLIPPED = (0.02, 0.05, 0.1, 0.2, 0.35)  # share of the pixels that become black or white
_LEVELS = (6, 4, 3, 2, 1)  # bits of a channel
_COLOUR_LEFT = (0.7, 0.4, 0.2, 0.1, 0.0)  # share of the colourfulness


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


def _darkness(images: Tensor, severity: int) -> Tensor:
    return transforms.adjust_brightness(images, _DARKNESS[severity - 1])


def _pixelation(images: Tensor, severity: int) -> Tensor:
    height, width = images.shape[-2:]
    share = _PIXELS[severity - 1]
    few = transforms.resize(images, [max(int(height * share), 1), max(int(width * share), 1)])
    return transforms.resize(few, [height, width], interpolation=InterpolationMode.NEAREST)


def _occlusion(images: Tensor, severity: int) -> Tensor:
    height, width = images.shape[-2:]
    side = int(min(height, width) * _COVERED[severity - 1])
    top = int(torch.randint(height - side + 1, ()))
    left = int(torch.randint(width - side + 1, ()))
    covered = images.clone()
    covered[:, :, top : top + side, left : left + side] = 128
    return covered


def _rotation(images: Tensor, severity: int) -> Tensor:
    return transforms.rotate(images, _ROTATION[severity - 1], InterpolationMode.BILINEAR)


def _salt_and_pepper(images: Tensor, severity: int) -> Tensor:
    n, _, height, width = images.shape
    chance = torch.rand(n, 1, height, width)
    share = _FLIPPED[severity - 1]
    changed = torch.where(chance < share / 2, torch.zeros_like(images), images)
    return torch.where(chance > 1 - share / 2, torch.full_like(images, 255), changed)


def _poor_colours(images: Tensor, severity: int) -> Tensor:
    grey = transforms.adjust_saturation(images, _COLOUR_LEFT[severity - 1])
    return transforms.posterize(grey, _LEVELS[severity - 1])


CORRUPTIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "JPEG": _jpeg,
}
# A second set, on which nothing was chosen.
OTHER_CORRUPTIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "darkness": _darkness,
    "pixelation": _pixelation,
    "occlusion": _occlusion,
    "rotation": _rotation,
    "salt and pepper": _salt_and_pepper,
    "poor colours": _poor_colours,
}
_ALL = CORRUPTIONS | OTHER_CORRUPTIONS


def corrupted(images: Tensor, corruption: str, severity: int, seed: int = 0) -> Tensor:
    """The images under one corruption.

    Args:
        images: uint8 (N, 3, H, W).
        corruption: "noise" (Gaussian), "blur" (Gaussian), "contrast" (lowered towards the mean
            grey), "JPEG" (compression), or one of `OTHER_CORRUPTIONS`.
        severity: 1 to 5.
        seed: of the noise, and of where images are covered.

    Returns:
        uint8 (N, 3, H, W), always the same for the same arguments.

    Raises:
        ValueError: for an unknown corruption or severity, or images that are not bytes.

    Example:
        >>> grey = torch.full((2, 3, 16, 16), 100, dtype=torch.uint8)
        >>> [round(float(corrupted(grey, "noise", k).float().std())) for k in (1, 5)]
        [10, 63]
    """
    if corruption not in _ALL:
        raise ValueError(f"corruption must be one of {', '.join(_ALL)}; got {corruption!r}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity must be one of {SEVERITIES}; got {severity!r}")
    if images.dtype != torch.uint8:
        raise ValueError(f"images are {images.dtype}; give them as uint8, before normalisation")
    # torchvision draws from the global generator alone.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _ALL[corruption](images, severity)
