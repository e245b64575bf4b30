"""Handwritten digits drawn on cluttered backgrounds.

A digit on black would not do: an empty background gets no relevance, while noise on it hurts the
prediction most.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SIDE = 32
_RECTANGLES, _ELLIPSES, _STROKES = 6, 4, 7


def draw_digits(shapes: Tensor, generator: torch.Generator) -> Tensor:
    """Digits (n, 8, 8) in 0..1, drawn on clutter of their own: uint8 images (n, 3, 32, 32)."""
    n = len(shapes)
    canvas = _clutter(n, generator)
    size = _uniform(generator, 17.0, 21.0, n, 1)
    centre = size / 2 + (_SIDE - size) * torch.rand(n, 2, generator=generator)
    across, down = _pixel_offsets(centre)
    grid = torch.stack((across, down), -1) / (size[:, :, None, None] / 2)
    ink = F.grid_sample(shapes[:, None], grid, mode="bicubic", align_corners=False)
    # Steepened, so that a stroke has an edge although it was enlarged from 8 x 8 pixels.
    canvas = torch.lerp(canvas, _bright_colour(n, generator), ((ink - 0.3) * 3.0).clamp(0, 1))
    return (canvas.clamp(0, 1) * 255).round().to(torch.uint8)


def _clutter(n: int, generator: torch.Generator) -> Tensor:
    """Backgrounds (n, 3, 32, 32) in 0..1 without an empty area: colour clouds, shapes, grain."""
    clouds = torch.rand(n, 3, 5, 5, generator=generator) * 0.8
    canvas = F.interpolate(clouds, size=(_SIDE, _SIDE), mode="bilinear")
    for power, count in ((8, _RECTANGLES), (2, _ELLIPSES)):
        for _ in range(count):
            half = _uniform(generator, 2.0, 7.0, n, 2)
            colour = torch.rand(n, 3, 1, 1, generator=generator) * 0.8
            canvas = _draw_shape(canvas, half, power, colour, generator)
    for _ in range(_STROKES):
        # Clutter is as bright and as thin as a digit's strokes: neither gives the digit away.
        half = torch.cat(
            (_uniform(generator, 2.0, 5.0, n, 1), _uniform(generator, 0.5, 1.3, n, 1)), 1
        )
        canvas = _draw_shape(canvas, half, 8, _bright_colour(n, generator), generator)
    return canvas + 0.06 * torch.randn(n, 3, _SIDE, _SIDE, generator=generator)


def _draw_shape(
    canvas: Tensor, half: Tensor, power: int, colour: Tensor, generator: torch.Generator
) -> Tensor:
    """One turned ellipse (power 2) or rectangle (power 8) of half-axes (n, 2) pixels per image."""
    n = len(canvas)
    across, down = _pixel_offsets(_SIDE * torch.rand(n, 2, generator=generator))
    angle = _uniform(generator, 0.0, torch.pi, n, 1, 1)
    along = (across * angle.cos() + down * angle.sin()) / half[:, 0, None, None]
    aside = (down * angle.cos() - across * angle.sin()) / half[:, 1, None, None]
    inside = (along**power + aside**power < 1)[:, None]
    return torch.where(inside, colour, canvas)


def _pixel_offsets(centre: Tensor) -> tuple[Tensor, Tensor]:
    """Distance in pixels (n, 32, 32), across and down, of every pixel from centres (n, 2)."""
    ticks = torch.arange(_SIDE) + 0.5
    across = (ticks - centre[:, :1])[:, None, :].expand(-1, _SIDE, -1)
    down = (ticks - centre[:, 1:])[:, :, None].expand(-1, -1, _SIDE)
    return across, down


def _bright_colour(n: int, generator: torch.Generator) -> Tensor:
    """Colours (n, 3, 1, 1) whose strongest channel is 1."""
    colour = torch.rand(n, 3, 1, 1, generator=generator)
    return colour / colour.amax(1, keepdim=True)


def _uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator)
