"""What a batch of a loader looks like: where its images are, and its labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from aopc_monitor.utilities.checks import plain_tensor

IMAGE_KEYS = ("image", "images", "pixel_values", "img", "x", "input", "inputs")
LABEL_KEYS = ("label", "labels", "target", "targets", "y")
# An entry that may be images has at least channels and one dimension of places. Where no entry has
# so many, it may be a table, or token ids.
FEWEST_DIMENSIONS, OF_A_TABLE = 3, 2
MOST_SHOWN = 8
LabelKind = Literal["classes", "independent", "pixels", "none"]


class BatchFormError(TypeError):
    """A batch of a form in which no images are found, which no later batch will mend."""


def images_of(
    batch: Any, remedy: str = "give images_fn=, a function from a batch to images (N, C, H, W)"
) -> Tensor:
    """Images of a batch: the batch itself, the first of a tuple or list, or a usual key of a dict.

    Raises:
        BatchFormError: if none of these is a tensor that may be images; the message tells what
            came in, and which entry may be meant.

    Example:
        >>> images_of({"pixel_values": torch.zeros(2, 3, 8, 8), "labels": torch.zeros(2)}).shape
        torch.Size([2, 3, 8, 8])
    """
    # One that came by itself can only be meant as images; whoever checks it says what it lacks.
    is_meant = isinstance(batch, Tensor) and batch.ndim > 1
    fewest = FEWEST_DIMENSIONS if _has_images(batch) else OF_A_TABLE
    found = batch if is_meant else _images_in(batch, fewest)
    if found is None:
        raise BatchFormError(
            f"no images were found in a batch that is {told_of(batch)}: {remedy}"
            f"{_suggestion(batch)}. Looked for: a tensor, the first of a tuple or list, or one of "
            f"the keys {', '.join(IMAGE_KEYS)}"
        )
    return found


def _images_in(batch: Any, fewest: int) -> Tensor | None:
    if isinstance(batch, Tensor):
        return batch if batch.ndim >= fewest else None
    if isinstance(batch, Mapping):
        # A key may hold something else that a project calls so, such as a table under "x".
        found = (_images_in(batch[key], fewest) for key in IMAGE_KEYS if key in batch)
        return next((images for images in found if images is not None), None)
    if isinstance(batch, (tuple, list)) and batch:
        return _images_in(batch[0], fewest)
    return None


def _has_images(batch: Any) -> bool:
    """Whether any entry, wherever, may be images."""
    if isinstance(batch, Tensor):
        return batch.ndim >= FEWEST_DIMENSIONS
    if isinstance(batch, Mapping):
        return any(_has_images(entry) for entry in batch.values())
    return isinstance(batch, (tuple, list)) and any(_has_images(entry) for entry in batch)


def told_of(value: Any) -> str:
    """A batch or an entry of it in a few words.

    Example:
        >>> told_of([torch.zeros(4, 3, 8, 8), torch.arange(4)])
        'a list of (4, 3, 8, 8) float32; (4,) int64, an index or a label'
    """
    if isinstance(value, Tensor):
        told = f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
        is_index = value.ndim == 1 and not value.is_floating_point()
        return f"{told}, an index or a label" if is_index else told
    if isinstance(value, Mapping):
        entries = [f"{key!r}: {told_of(entry)}" for key, entry in value.items()]
        return f"a dict with the keys {_listed(entries)}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {_listed([told_of(entry) for entry in value])}"
    return f"a {type(value).__name__}"


def _listed(entries: list[str]) -> str:
    more = f"; {len(entries) - MOST_SHOWN} more" if len(entries) > MOST_SHOWN else ""
    return ("; ".join(entries[:MOST_SHOWN]) or "nothing") + more


def _suggestion(batch: Any) -> str:
    """Where images may be meant, if a single entry has their form; or that there are none."""
    places = list(_places_of_images(batch, "batch"))
    if not places:
        return ", or dataloader=, a loader that has images"
    return f", perhaps lambda batch: {places[0]}" if len(places) == 1 else ""


def _places_of_images(value: Any, place: str) -> Iterator[str]:
    entries: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        entries = value.items()
    elif isinstance(value, (tuple, list)):
        entries = enumerate(value[:MOST_SHOWN])
    for key, entry in entries:
        if isinstance(entry, Tensor) and entry.ndim == 4:
            yield f"{place}[{key!r}]"
        else:
            yield from _places_of_images(entry, f"{place}[{key!r}]")


def labels_of(batch: Any, num_images: int) -> tuple[Any, str] | None:
    """What stands where a batch has its labels, and where: for `class_labels` to judge.

    That is the second of a tuple or list, or of a dict a usual key, or else its only key with
    "label" in its name.

    Args:
        batch: as a loader gives it.
        num_images: N.

    Returns:
        The entry and how people would write its place; None where there is none of N rows.

    Example:
        >>> labels_of((torch.zeros(2, 3, 8, 8), torch.tensor([3, 1])), num_images=2)
        (tensor([3, 1]), 'batch[1]')
    """
    place: Any = None
    if isinstance(batch, Mapping):
        place = next((key for key in LABEL_KEYS if key in batch), None)
        others = [key for key in batch if "label" in str(key).lower()]
        if place is None and len(others) == 1:
            place = others[0]
    elif isinstance(batch, (tuple, list)) and len(batch) > 1:
        place = 1
    if place is None:
        return None
    entry = batch[place]
    return (entry, f"batch[{place!r}]") if has_rows(entry, num_images) else None


def has_rows(entry: Any, count: int) -> bool:
    """Whether an entry of a batch has one row for each image."""
    if isinstance(entry, (str, bytes, Mapping)) or getattr(entry, "ndim", 1) == 0:
        return False
    return hasattr(entry, "__len__") and len(entry) == count


def class_labels(entry: Any, kind: LabelKind = "classes") -> tuple[Tensor, str] | None:
    """Labels of any usual kind as class indices, or as one column per label.

    Args:
        entry: whole numbers, also as floats, (N,) or (N, 1); truth values; one-hot rows (N, K); or
            rows (N, K) of zeros and ones, of independent labels.
        kind: "independent" where rows (N, K) are of independent labels also where each holds one,
            "pixels" where labels are masks `(N, *space)` or (N, 1, *space) of whole numbers.

    Returns:
        (N,) int64 class indices, (N, K) truth values of independent labels, or `(N, *space)` masks
        in as few bytes as they take, and what kind they came as; None for anything else,
        such as mixed labels or texts.

    Example:
        >>> class_labels(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        (tensor([1, 0]), 'one-hot rows of 2')
        >>> class_labels(torch.tensor([0.5, 1.0])) is None
        True
    """
    labels = _as_tensor(entry)
    if labels is None or labels.numel() == 0:
        return None
    if kind == "pixels":
        return _masks(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim not in (1, 2) or labels.is_complex():
        return None
    whole = labels.long()
    if labels.is_floating_point() and not torch.equal(whole.to(labels.dtype), labels):
        return None
    if labels.ndim == 1:
        dtype = str(labels.dtype).removeprefix("torch.")
        return whole, f"{dtype}, {int(whole.min())} to {int(whole.max())}"
    if not ((whole == 0) | (whole == 1)).all():
        return None
    if kind == "classes" and (whole.sum(dim=1) == 1).all():
        return whole.argmax(dim=1), f"one-hot rows of {whole.shape[1]}"
    return whole.bool(), f"{whole.shape[1]} independent labels"


def _masks(labels: Tensor) -> tuple[Tensor, str] | None:
    if labels.ndim > 3 and labels.shape[1] == 1:
        labels = labels[:, 0]
    whole = labels.long()
    if labels.ndim < 2 or labels.is_complex() or not torch.equal(whole.to(labels.dtype), labels):
        return None
    least, most = int(whole.min()), int(whole.max())
    told = f"masks of {' x '.join(map(str, whole.shape[1:]))}, {least} to {most}"
    if least >= 0 and most < 256:
        return whole.to(torch.uint8), told
    return whole.to(torch.int16 if max(-least, most) < 2**15 else torch.int32), told


def concatenated(entries: Sequence[Any]) -> Tensor | None:
    """Entries of several batches as one tensor on the CPU; None where they are no numbers.

    Example:
        >>> concatenated([[1, 2], [3]])
        tensor([1, 2, 3])
    """
    tensors = [_as_tensor(entry) for entry in entries]
    known = [tensor for tensor in tensors if tensor is not None]
    shapes = {tensor.shape[1:] for tensor in known}
    return torch.cat(known) if len(known) == len(tensors) and len(shapes) == 1 else None


def _as_tensor(entry: Any) -> Tensor | None:
    try:
        found = torch.as_tensor(entry)
    except (TypeError, ValueError, RuntimeError):  # texts, objects, rows of unequal length
        return None
    return plain_tensor(found).detach().cpu()
