"""The probe: which images are looked at again and again, and what a batch looks like."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from aopc_monitor.monitor.loaders import BLOCK_SIZE, batches_of
from aopc_monitor.utilities.batches import images_of, labels_of
from aopc_monitor.utilities.checks import check_images

ImagesFunction: TypeAlias = Callable[[Any], Tensor]


@dataclass(frozen=True)
class Probe:
    """A fixed set of images, kept on the CPU.

    Attributes:
        images: (N, C, H, W) as the network sees them.
        labels: (N,) class indices, or None. They are used for nothing but the accuracy.
    """

    images: Tensor
    labels: Tensor | None

    @property
    def fingerprint(self) -> str:
        """The same for the same images, and for no others."""
        content = self.images.contiguous().view(torch.uint8).numpy()
        return hashlib.blake2b(content.tobytes(), digest_size=8).hexdigest()

    def blocks(self, rank: int = 0, world_size: int = 1) -> Iterator[tuple[Tensor, Tensor | None]]:
        """This process's share of images and labels, in blocks that all processes agree on."""
        for start in range(rank * BLOCK_SIZE, len(self.images), world_size * BLOCK_SIZE):
            chosen = slice(start, start + BLOCK_SIZE)
            yield self.images[chosen], None if self.labels is None else self.labels[chosen]


def named_sources(dataloader: Any) -> dict[str, Any]:
    """Where probes come from, by name: "" for a single one, nothing for none.

    Raises:
        ValueError: for a dict without loaders, or names that are no text.

    Example:
        >>> named_sources({"val": [], "target_domain": []}), named_sources([]), named_sources(None)
        ({'val': [], 'target_domain': []}, {'': []}, {})
    """
    if dataloader is None:
        return {}
    if not isinstance(dataloader, Mapping):
        return {"": dataloader}
    if not dataloader or not all(isinstance(name, str) and name for name in dataloader):
        raise ValueError(
            f"dataloader={dict(dataloader)!r} must hold one or more loaders by their names, as in "
            '{"val": val_loader, "target_domain": target_loader}'
        )
    return dict(dataloader)


def collect_probe(
    source: Tensor | Iterable[Any],
    num_images: int,
    *,
    seed: int = 0,
    images_fn: ImagesFunction | None = None,
    transfer: Callable[[Any], Any] = lambda batch: batch,
    check: Callable[[Tensor], None] = check_images,
) -> Probe:
    """Choose the probe from a loader.

    The images are drawn at random but always the same for the same seed, or are the first ones of a
    stream (see `batches_of`).

    Args:
        source: a loader of batches, or the images themselves, (N, C, H, W).
        num_images: how many images to take; fewer if there are not so many.
        seed: which ones.
        images_fn: finds the images (N, C, H, W) in a batch, where `images_of` cannot.
        transfer: what else is done to a batch before the network sees it.
        check: raises for images that the network does not take.

    Returns:
        The probe; labels only if every batch has them.

    Raises:
        ValueError: if the loader is empty, or the images are not what a network takes.
        TypeError: if a batch has no images that could be found.
    """
    images: list[Tensor] = []
    labels: list[Tensor | None] = []
    for raw in batches_of(source, num_images, seed):
        batch = transfer(raw)
        found = images_of(batch) if images_fn is None else images_fn(batch)
        check(found)
        if images and found.shape[1:] != images[0].shape[1:]:
            raise ValueError(
                f"the probe's images differ in shape, {tuple(images[0].shape[1:])} and "
                f"{tuple(found.shape[1:])}: give a dataloader= whose images are of one size"
            )
        # A copy: the next batch may come in the same memory.
        images.append(found.detach().cpu().clone())
        labels.append(labels_of(batch, len(found)))
        if sum(map(len, images)) >= num_images:
            break
    if not images:
        raise ValueError(
            f"dataloader={type(source).__name__} gave no batch: AOPC needs at least one image"
        )
    known = [label.detach().cpu() for label in labels if label is not None]
    complete = len(known) == len(labels)
    return Probe(
        torch.cat(images)[:num_images], torch.cat(known)[:num_images] if complete else None
    )
