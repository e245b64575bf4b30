"""Taking the probe: inputs from the batches of a loader, valid ones only, with their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from aopc_monitor.monitor.batch_reading import BatchReading
from aopc_monitor.monitor.loaders import batches_of
from aopc_monitor.monitor.probe import Probe
from aopc_monitor.network.further_inputs import Inputs, each, joined, moved
from aopc_monitor.perturbation.input_kinds import checked_inputs, kind_of
from aopc_monitor.utilities.batches import BatchFormError, class_labels, concatenated, told_of

CPU = torch.device("cpu")
NO_WORD = -1
NOT_FINITE = "with NaN or infinite values"


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
    stream (see `batches_of`). Those that hold NaN or infinite values are left out, and texts of
    which no word may be perturbed.

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
        self._words: list[Tensor] = []
        self._note = ""

    def add(self, batch: Any, check: Callable[[Tensor], object]) -> None:
        """Take a batch, as the network sees it."""
        taken = self._reading.taken(batch)
        images = taken.images
        # Single images that are not valid are left out, and counted, in the end.
        check(torch.nan_to_num(images) if isinstance(images, Tensor) else images)
        if images.is_floating_point():
            self._check_shape(images)
        # A copy: the next batch may come in the same memory.
        images = images.detach().to(CPU, copy=True)
        self._images.append(images)
        self._valid.append(torch.isfinite(images).flatten(1).all(dim=1))
        if taken.words is not None:
            self._words.append(taken.words.to(CPU, copy=True))
            self._valid[-1] &= (self._words[-1] != NO_WORD).any(dim=1)
            self._note = taken.note
        self._labels.append(self._reading.labels(batch, len(images)))
        self._inputs.append(moved(taken.inputs, CPU))
        self.num_seen += len(images)

    def _check_shape(self, images: Tensor) -> None:
        if self._images and images.shape[1:] != self._images[0].shape[1:]:
            raise ValueError(
                f"the probe's {kind_of(images).name} differ in shape, "
                f"{tuple(self._images[0].shape[1:])} and {tuple(images.shape[1:])}: give a "
                "dataloader= in which all are of one size"
            )

    def probe(self, num_images: int) -> Probe:
        """The valid ones of the first so many images."""
        valid = torch.cat(self._valid)[:num_images]
        if not valid.any():
            raise ValueError(self._none_is_valid(len(valid)))
        labels, notes = self._known_labels(num_images)
        kind = kind_of(self._images[0]).name
        if len(valid) < num_images:
            notes.insert(0, f"no more than {len(valid)} {kind}, where num_images={num_images}")
        if not valid.all():
            why = "without a word that may be perturbed" if self._words else NOT_FINITE
            notes.append(f"left out, {why}: {int((~valid).sum())} {kind}")
        if self._note:
            notes.append(self._note)
        whole = self._whole(labels, tuple(notes), num_images)
        return whole.part(valid.nonzero()[:, 0].tolist())

    def _whole(self, labels: Tensor | None, notes: tuple[str, ...], num_images: int) -> Probe:
        """All that was taken, texts padded to the longest."""
        images, words, inputs, lengths = self._images, self._words, self._inputs, None
        widths = [part.shape[1] for part in images]
        if not images[0].is_floating_point() and len(set(widths)) > 1:
            longest = max(widths)
            # The same steps are shares of each text, however many tokens it has.
            words = words or [torch.arange(p.shape[1]).repeat(len(p), 1) for p in images]
            lengths = torch.cat([torch.full((len(part),), part.shape[1]) for part in images])
            images = [_padded(part, longest) for part in images]
            words = [_padded(part, longest, NO_WORD) for part in words]
            inputs = [
                each(part, partial(_padded_if, width=width, longest=longest))
                for part, width in zip(inputs, widths, strict=True)
            ]
        return Probe(
            torch.cat(images)[:num_images],
            labels,
            notes,
            joined(inputs),
            torch.cat(words)[:num_images] if words else None,
            None if lengths is None else lengths[:num_images],
        )

    def _none_is_valid(self, count: int) -> str:
        if self._words:
            return (
                f"all {count} texts of the probe are without a word that may be perturbed: give "
                "others by dataloader=, whose attention_mask keeps some and whose "
                "special_tokens_mask does not name all"
            )
        return (
            f"all {count} {kind_of(self._images[0]).name} of the probe hold NaN or infinite "
            "values: give valid ones by dataloader=, or repair them in images_fn="
        )

    def _known_labels(self, num_images: int) -> tuple[Tensor | None, list[str]]:
        """The labels, if every batch has some, and what to tell of them."""
        entries = [entry for entry in self._labels if entry is not None]
        if not entries or len(entries) < len(self._labels):
            return None, []
        place = entries[0][1]
        together = concatenated([entry for entry, _ in entries])
        found = None
        if together is not None:
            found = class_labels(together[:num_images], self._reading.label_kind)
        if found is None:
            told = f"{place} ({told_of(entries[0][0])}) is not taken for labels"
            if self._reading.labels_fn is not None:
                raise BatchFormError(f"{told}: wanted is one class index for each image")
            return None, [told]
        return found[0], [f"labels from {place} ({found[1]})"]


def _padded(entry: Tensor, longest: int, value: int = 0) -> Tensor:
    return F.pad(entry, (0, longest - entry.shape[1]), value=value)


def _padded_if(entry: Tensor, width: int, longest: int) -> Tensor:
    """Further inputs of texts, such as masks, where they go along the tokens."""
    return _padded(entry, longest) if entry.ndim == 2 and entry.shape[1] == width else entry
