"""Images and their labels as they are given, out of a loader that a network is trained with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from aopc_monitor.utilities.batches import (
    class_labels,
    concatenated,
    has_rows,
    images_of,
    labels_of,
    told_of,
)
from aopc_monitor.utilities.checks import checked_images

OWN_CALLABLE = "for inputs of another kind give a callable of your own, from inputs to classes"


def labelled_images(
    loader: Iterable[Any],
    most: int,
    images_fn: Callable[[Any], Any] | None = None,
    labels_fn: Callable[[Any], Any] | None = None,
) -> tuple[Tensor, Tensor]:
    """The first images of a loader and their labels, at least one, both on the CPU.

    Args:
        loader: batches.
        most: images to take; fewer if there are not so many.
        images_fn: from a batch to its images; usual places if not given.
        labels_fn: from a batch to its labels; the same.

    Returns:
        (N, C, H, W) float32 images and (N,) class indices, as they are given, also below 0.

    Raises:
        TypeError, ValueError: for batches without labels, labels that are no classes, images that
            are none, and an empty loader.

    Example:
        >>> images, labels = labelled_images([(torch.rand(4, 3, 8, 8), [3, 1, 0, 1])], most=3)
        >>> images.shape, labels
        (torch.Size([3, 3, 8, 8]), tensor([3, 1, 0]))
    """
    images: list[Tensor] = []
    entries: list[Any] = []
    place, count = "", 0
    for batch in loader:
        found = images_of(batch) if images_fn is None else images_fn(batch)
        images.append(_checked(found, images))
        entry, place = _labels(batch, len(found), labels_fn)
        entries.append(entry)
        count += len(found)
        if count >= most:
            break
    if not images:
        raise ValueError(
            f"loader={type(loader).__name__} gave no batch: a reference needs images and labels"
        )
    together = concatenated(entries)
    labels = None if together is None else class_labels(together[:most])
    if labels is None or labels[0].ndim != 1:
        raise TypeError(
            f"{place} ({told_of(entries[0])}) is not taken for labels: wanted is one class index "
            "for each image, or a one-hot row; where a batch has them elsewhere, give labels_fn="
        )
    return torch.cat(images)[:most], labels[0]


def _checked(images: Any, before: list[Tensor]) -> Tensor:
    if isinstance(images, Tensor) and images.ndim != 4:
        raise ValueError(
            f"images has shape {tuple(images.shape)}; a FixedReference is of images "
            f"(N, C, H, W): {OWN_CALLABLE}"
        )
    images = checked_images(images)
    if before and images.shape[1:] != before[0].shape[1:]:
        raise ValueError(
            f"the loader's images differ in shape, {tuple(before[0].shape[1:])} and "
            f"{tuple(images.shape[1:])}: give one in which all are of one size"
        )
    # A copy: the next batch may come in the same memory.
    return images.detach().to("cpu", torch.float32, copy=True)


def _labels(batch: Any, num_images: int, labels_fn: Callable[[Any], Any] | None) -> tuple[Any, str]:
    found = labels_of(batch, num_images) if labels_fn is None else (labels_fn(batch), "labels_fn")
    if found is None:
        raise ValueError(
            f"no labels to fit on were found in a batch that is {told_of(batch)}: give a loader "
            "that has them, or labels_fn=, a function from a batch to one class for each image"
        )
    if not has_rows(found[0], num_images):
        raise ValueError(
            f"labels_fn gave {told_of(found[0])}; wanted is one class for each of the "
            f"{num_images} images"
        )
    return found
