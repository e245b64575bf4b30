"""Heatmaps of networks that give each pixel a class: as of any (N, classes), by way of means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from aopc_monitor.network.asked import AskedNetwork
from aopc_monitor.network.isolation import untouched
from aopc_monitor.network.outputs import OutputFunction
from aopc_monitor.network.pixels import PixelAnswers, mean_over_pixels
from aopc_monitor.network.reading import wanted_by
from aopc_monitor.network.targets import Explanations
from aopc_monitor.network.wrappers import unwrapped

IMAGES_AT_ONCE = 8


def with_classes_of_images(
    model: nn.Module,
    images: Tensor,
    target: Tensor | None,
    output_fn: OutputFunction | None = None,
) -> tuple[AskedNetwork, Tensor]:
    """A network of classes of pixels as one of (N, classes), and the classes that are explained.

    The number of a class is its mean logit over the pixels that the network gives the explained
    class on these very images, whatever the images that are made of them.

    Args:
        model: network that returns (N, classes, *space).
        images: (N, C, *space).
        target: (N,) explained classes; those that cover most pixels if not given.
        output_fn: from what the network returns to its outputs.

    Raises:
        OutputError: if it returns nothing of that kind, either.
        ValueError: for a class that no pixel of an image has.
    """
    model = unwrapped(model)
    asked = model if isinstance(model, AskedNetwork) else AskedNetwork(model)
    reading = replace(asked.reading, wanted=wanted_by("segmentation", images.ndim))
    asked = asked.read_by(reading if output_fn is None else replace(reading, output_fn=output_fn))
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), images.dtype)
    with untouched(model), torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        first = asked.of(0, 1)(images[:1].clone().to(dtype))
        if first.shape[1] == 1:
            asked = asked.read_by(replace(asked.reading, sides="opposite"))
        has_sides = asked.reading.sides is not None
        parts = []
        for start in range(0, len(images), IMAGES_AT_ONCE):
            rows = slice(start, min(start + IMAGES_AT_ONCE, len(images)))
            outputs = asked.of(rows.start, rows.stop)(images[rows].clone().to(dtype))
            given = None if target is None else target[rows]
            parts.append(PixelAnswers.of(outputs, given, has_sides))
    found = PixelAnswers.joined(parts)
    return asked.keeping(found.pixels, mean_over_pixels), Explanations.of(found.target).target


def row_by_row(
    heatmap: Callable[[nn.Module, Tensor, Tensor | None], Tensor],
    model: AskedNetwork,
    images: Tensor,
    target: Tensor | None,
    at_once: int,
) -> Tensor:
    """Heatmaps by a network that has to know which image of the batch it is asked for.

    Args:
        heatmap: the heatmap.
        model: the network.
        images: (N, C, *space).
        target: (N,) explained classes.
        at_once: how many images at once; 1 for a heatmap that asks for others than these images.
    """
    parts = []
    for start in range(0, len(images), at_once):
        end = min(start + at_once, len(images))
        given = None if target is None else target[start:end]
        parts.append(heatmap(model.of(start, end), images[start:end], given))
    return torch.cat(parts)
