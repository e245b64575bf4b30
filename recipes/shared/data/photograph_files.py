"""Photographs as people have them: gray, with alpha, of 16 bits, turned by their camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError


def read_photograph(path: str | Path) -> Any:
    """A photograph as an RGB picture, upright.

    What is transparent becomes white. Numbers of 16 bits are scaled to 8; a common conversion would
    cut them off at white.

    Raises:
        ValueError: for a file that is no image, or a larger one than is plausible.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"photograph {str(path)!r} is too large to be read ({error}): make it smaller first"
        ) from error
    except (UnidentifiedImageError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(
            f"photograph {str(path)!r} is no image that can be read: {error}"
        ) from error
    if upright.mode.startswith("I"):
        return Image.fromarray(_of_16_bits(np.asarray(upright))).convert("RGB")
    if "A" in upright.getbands() or "transparency" in upright.info:
        upright = upright.convert("RGBA")
        ground = Image.new("RGBA", upright.size, "white")
        return Image.alpha_composite(ground, upright).convert("RGB")
    return upright.convert("RGB")


def _of_16_bits(values: Any) -> Any:
    """Whole numbers of up to 16 bits as bytes.

    Example:
        >>> _of_16_bits(np.array([0, 32896, 65535])).tolist()
        [0, 128, 255]
    """
    return (values.astype(np.float64) / 257).round().clip(0, 255).astype(np.uint8)
