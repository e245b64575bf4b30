"""What a batch of a loader looks like: where its images are, and its labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

IMAGE_KEYS = ("image", "images", "pixel_values", "img", "x", "input", "inputs")
LABEL_KEYS = ("label", "labels", "target", "targets", "y")


def images_of(
    batch: Any, remedy: str = "give images_fn=, a function from a batch to images (N, C, H, W)"
) -> Tensor:
    """Images of a batch: the batch itself, the first of a tuple or list, or a usual key of a dict.

    Raises:
        TypeError: if none of these is a tensor.

    Example:
        >>> import torch
        >>> images_of({"pixel_values": torch.zeros(2, 3, 8, 8), "labels": torch.zeros(2)}).shape
        torch.Size([2, 3, 8, 8])
    """
    if isinstance(batch, Tensor):
        return batch
    if isinstance(batch, Mapping):
        for key in IMAGE_KEYS:
            if key in batch:
                return images_of(batch[key], remedy)
        came_in = f"a dict with the keys {', '.join(map(str, batch))}"
    elif isinstance(batch, (tuple, list)) and batch:
        return images_of(batch[0], remedy)
    else:
        came_in = f"a {type(batch).__name__}"
    raise TypeError(
        f"no images were found in a batch that is {came_in}: {remedy}. Looked for: a tensor, the "
        f"first of a tuple or list, or one of the keys {', '.join(IMAGE_KEYS)}"
    )


def labels_of(batch: Any, num_images: int) -> Tensor | None:
    """Class labels of a batch if there are any: the second of a tuple or list, or a usual key."""
    found = None
    if isinstance(batch, Mapping):
        found = next((batch[key] for key in LABEL_KEYS if key in batch), None)
    elif isinstance(batch, (tuple, list)) and len(batch) > 1:
        found = batch[1]
    if not isinstance(found, Tensor) or found.shape != (num_images,) or found.is_floating_point():
        return None
    return found
