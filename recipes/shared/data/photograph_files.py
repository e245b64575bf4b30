"""Photographs as people have them: gray, with alpha, of 16 bits, turned by their camera."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

# What puts a picture upright, by the orientation that the camera noted (EXIF 2.32, tag 0x0112).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MOST_OF_16_BITS = 65535
# Damaged files end in any of these, depending on the format and the place of the damage.
_DAMAGE = (OSError, SyntaxError, TypeError, ValueError, struct.error)


def read_photograph(path: str | Path) -> Any:
    """A photograph as an RGB picture, upright.

    What is transparent becomes white. Numbers of 16 bits are scaled to 8; a common conversion would
    cut them off at white.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file that is no image, a larger one than is plausible, or one whose
            numbers do not say what is white.
    """
    try:
        # Given a path, Pillow 13 maps plain TIFF files into memory, and mixes up turned ones.
        with Path(path).open("rb") as file, Image.open(file) as image:
            return _as_rgb(_upright(image))
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"photograph {str(path)!r} is too large to be read ({error}): make it smaller first"
        ) from error
    except FileNotFoundError:
        raise
    except _DAMAGE as error:
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(
            f"photograph {str(path)!r} is no image that can be read: {reason}"
        ) from error


def _upright(image: Any) -> Any:
    image.load()  # some formats are put upright by that, and note it
    # Pillow's own function also rewrites the camera's other notes, which fails for damaged ones.
    turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    return image if turn is None else image.transpose(turn)


def _as_rgb(image: Any) -> Any:
    if image.mode == "F":
        raise ValueError("its numbers are fractions of an unknown white; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return Image.fromarray(_of_16_bits(np.asarray(image))).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def _of_16_bits(values: Any) -> Any:
    """Whole numbers of up to 16 bits as bytes.

    Raises:
        ValueError: for others.

    Example:
        >>> _of_16_bits(np.array([0, 32896, 65535])).tolist()
        [0, 128, 255]
    """
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > _MOST_OF_16_BITS:
        raise ValueError(
            f"its numbers go from {low} to {high}, and 16 bits to {_MOST_OF_16_BITS} only; save it "
            "with 8 or 16 bits"
        )
    return (values.astype(np.float64) / 257).round().astype(np.uint8)
