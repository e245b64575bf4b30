"""The probe: which images are looked at again and again, and what a batch looks like."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from aopc_monitor.monitor.loaders import BLOCK_SIZE, batches_of
from aopc_monitor.network.further_inputs import Inputs, joined, moved, selected
from aopc_monitor.perturbation.input_kinds import checked_inputs
from aopc_monitor.utilities.batches import (
    BatchFormError,
    class_labels,
    concatenated,
    has_rows,
    images_of,
    labels_of,
    told_of,
)
from aopc_monitor.utilities.checks import plain_tensor

ImagesFunction: TypeAlias = Callable[[Any], Tensor]


@dataclass(frozen=True)
class Probe:
    """A fixed set of images, kept on the CPU.

    Attributes:
        images: (N, C, H, W) as the network sees them.
        labels: (N,) class indices, (N, K) truth values of independent labels, or None. They are
            used for nothing but the accuracy.
        notes: what people should know of how it was taken.
        inputs: what the network's forward takes after the images, one row for each image.
    """

    images: Tensor
    labels: Tensor | None
    notes: tuple[str, ...] = ()
    inputs: Inputs = ()

    @property
    def fingerprint(self) -> str:
        """The same for the same images, and for no others."""
        content = self.images.contiguous().view(torch.uint8).numpy()
        return hashlib.blake2b(content.tobytes(), digest_size=8).hexdigest()

    def blocks(self, rank: int = 0, world_size: int = 1) -> Iterator[Probe]:
        """This process's share, in blocks that all processes agree on."""
        for start in range(rank * BLOCK_SIZE, len(self.images), world_size * BLOCK_SIZE):
            yield self.part(range(len(self.images))[start : start + BLOCK_SIZE])

    def part(self, rows: Sequence[int]) -> Probe:
        """Some of its images."""
        chosen = torch.tensor(list(rows))
        labels = None if self.labels is None else self.labels[chosen]
        inputs = selected(self.inputs, len(chosen), chosen)
        return Probe(self.images[chosen], labels, self.notes, inputs)


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


@dataclass(frozen=True)
class BatchReading:
    """Where a batch has what the probe keeps of it; usual places where no function is given.

    Attributes:
        images_fn: from a batch to its images (N, C, H, W).
        labels_fn: from a batch to its labels, of any kind that `class_labels` knows.
        inputs_fn: from a batch to what the network's forward takes after the images: a tensor of
            one row for each image, several in a tuple, or by name in a dict.
        independent_labels: whether rows of labels are independent ones also where each holds one.
    """

    images_fn: ImagesFunction | None = None
    labels_fn: Callable[[Any], Any] | None = None
    inputs_fn: Callable[[Any], Any] | None = None
    independent_labels: bool = False

    def inputs(self, batch: Any, num_images: int) -> Inputs:
        """What the network's forward takes after the images."""
        if self.inputs_fn is None:
            return ()
        found = _asked(self.inputs_fn, batch)
        inputs = found if isinstance(found, (tuple, Mapping)) else (found,)
        for entry in inputs.values() if isinstance(inputs, Mapping) else inputs:
            if isinstance(entry, Tensor) and entry.ndim and len(entry) != num_images:
                raise BatchFormError(
                    f"inputs_fn gave {told_of(entry)}; wanted is one row for each of the "
                    f"{num_images} images"
                )
        return inputs

    def images(self, batch: Any) -> Any:
        """What is taken for the images."""
        found = images_of(batch) if self.images_fn is None else _asked(self.images_fn, batch)
        return plain_tensor(found) if isinstance(found, Tensor) else found

    def labels(self, batch: Any, num_images: int) -> tuple[Any, str] | None:
        """What is taken for the labels, and where it was."""
        if self.labels_fn is None:
            return labels_of(batch, num_images)
        found = _asked(self.labels_fn, batch)
        if not has_rows(found, num_images):
            raise BatchFormError(
                f"labels_fn gave {told_of(found)}; wanted is one label for each of the "
                f"{num_images} images"
            )
        return found, "labels_fn"


def _asked(function: Callable[[Any], Any], batch: Any) -> Any:
    try:
        return function(batch)
    except Exception as error:  # whatever a function of the user's may raise
        raise BatchFormError(
            f"{getattr(function, '__name__', function)} (images_fn, labels_fn or inputs_fn) raised "
            f"{type(error).__name__}: {error} for a batch that is {told_of(batch)}"
        ) from error


def collect_probe(
    source: Tensor | Iterable[Any],
    num_images: int,
    *,
    seed: int = 0,
    reading: BatchReading | None = None,
    transfer: Callable[[Any], Any] = lambda batch: batch,
    check: Callable[[Tensor], object] = checked_inputs,
) -> Probe:
    """Choose the probe from a loader.

    The images are drawn at random but always the same for the same seed, or are the first ones of a
    stream (see `batches_of`). Those that hold NaN or infinite values are left out.

    Args:
        source: a loader of batches, or the images themselves, (N, C, H, W).
        num_images: how many images to take; fewer if there are not so many.
        seed: which ones.
        reading: where a batch has its images and labels.
        transfer: what else is done to a batch before the network sees it.
        check: raises for images that the network does not take.

    Returns:
        The probe; labels only if every batch has them.

    Raises:
        ValueError: if the loader is empty, or the images are not what a network takes.
        BatchFormError: if a batch has no images that could be found.
    """
    collection = _Collection(reading or BatchReading())
    for raw in batches_of(source, num_images, seed):
        collection.add(transfer(raw), check)
        if collection.num_seen >= num_images:
            break
    if not collection.num_seen:
        raise ValueError(
            f"dataloader={type(source).__name__} gave no batch: AOPC needs at least one image"
        )
    return collection.probe(num_images)


class _Collection:
    """What was taken so far."""

    def __init__(self, reading: BatchReading) -> None:
        self.num_seen = 0
        self._reading = reading
        self._images: list[Tensor] = []
        self._valid: list[Tensor] = []
        self._labels: list[tuple[Any, str] | None] = []
        self._inputs: list[Inputs] = []

    def add(self, batch: Any, check: Callable[[Tensor], object]) -> None:
        """Take a batch, as the network sees it."""
        images = self._reading.images(batch)
        # Single images that are not valid are left out, and counted, in the end.
        check(torch.nan_to_num(images) if isinstance(images, Tensor) else images)
        if self._images and images.shape[1:] != self._images[0].shape[1:]:
            raise ValueError(
                f"the probe's images differ in shape, {tuple(self._images[0].shape[1:])} and "
                f"{tuple(images.shape[1:])}: give a dataloader= whose images are of one size"
            )
        # A copy: the next batch may come in the same memory.
        images = images.detach().cpu().clone()
        self._images.append(images)
        self._valid.append(torch.isfinite(images).flatten(1).all(dim=1))
        self._labels.append(self._reading.labels(batch, len(images)))
        self._inputs.append(moved(self._reading.inputs(batch, len(images)), torch.device("cpu")))
        self.num_seen += len(images)

    def probe(self, num_images: int) -> Probe:
        """The valid ones of the first so many images."""
        valid = torch.cat(self._valid)[:num_images]
        if not valid.any():
            raise ValueError(
                f"all {len(valid)} images of the probe hold NaN or infinite values: give valid "
                "ones by dataloader=, or repair them in images_fn="
            )
        labels, notes = self._known_labels(num_images)
        if len(valid) < num_images:
            notes.insert(0, f"no more than {len(valid)} images, where num_images={num_images}")
        if not valid.all():
            notes.append(f"left out, with NaN or infinite values: {int((~valid).sum())} images")
        images = torch.cat(self._images)[:num_images]
        inputs = joined(self._inputs)
        whole = Probe(images, labels, tuple(notes), inputs)
        return whole.part(valid.nonzero()[:, 0].tolist())

    def _known_labels(self, num_images: int) -> tuple[Tensor | None, list[str]]:
        """The labels, if every batch has some, and what to tell of them."""
        entries = [entry for entry in self._labels if entry is not None]
        if not entries or len(entries) < len(self._labels):
            return None, []
        place = entries[0][1]
        together = concatenated([entry for entry, _ in entries])
        independent = self._reading.independent_labels
        found = None
        if together is not None:
            found = class_labels(together[:num_images], independent=independent)
        if found is None:
            told = f"{place} ({told_of(entries[0][0])}) is not taken for labels"
            if self._reading.labels_fn is not None:
                raise BatchFormError(f"{told}: wanted is one class index for each image")
            return None, [told]
        return found[0], [f"labels from {place} ({found[1]})"]
