"""The references of a run: fitted on its training images, and what they see in its probe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from aopc_monitor import FixedReference
from recipes.label_free_limits.looks import Condition, on_condition
from recipes.label_free_limits.subjects import Subjects, all_images, batches
from recipes.shared.kept_files import save_whole

Reference = Callable[[Tensor], Tensor]
FEW_PATCHES = 16
RIDGE = 1000.0


def fitted(subjects: Subjects, seed: int) -> dict[str, Reference]:
    """Each reference of `signals.REFERENCES`: from images (N, C, H, W) to scores (N, classes).

    Args:
        subjects: the images; the references are fitted on those of the training, not augmented,
            with the labels as given.
        seed: of the patches.
    """
    train = subjects.data.train
    plain = batches(train.part(torch.arange(len(train)), augmented=False))
    classes = len(subjects.data.classes)
    return {
        "ref": FixedReference.fit(plain, classes, seed=seed),
        "ref_few": FixedReference.fit(plain, classes, num_patches=FEW_PATCHES, seed=seed),
        "ref_linear": linear_reference(*_pixels_and_labels(plain), classes),
    }


def _pixels_and_labels(loader: DataLoader[Any]) -> tuple[Tensor, Tensor]:
    pairs = list(loader)
    return torch.cat([images for images, _ in pairs]), torch.cat([labels for _, labels in pairs])


def linear_reference(
    images: Tensor, labels: Tensor, num_classes: int, ridge: float = RIDGE
) -> Reference:
    """Ridge regression from pixels to classes, in closed form.

    Args:
        images: (N, C, H, W).
        labels: (N,).
        num_classes: number of scores.
        ridge: weight of the penalty.

    Example:
        >>> images = torch.eye(3).reshape(3, 3, 1, 1)
        >>> linear_reference(images, torch.tensor([2, 0, 1]), 3, ridge=0.1)(images).argmax(dim=1)
        tensor([2, 0, 1])
    """
    pixels = images.flatten(1).double()
    mean = pixels.mean(dim=0)
    centred = pixels - mean
    targets = torch.nn.functional.one_hot(labels, num_classes).double()
    # As many unknowns as images or as pixels, whichever are fewer.
    if len(centred) < centred.shape[1]:
        gram = centred @ centred.T + ridge * torch.eye(len(centred), dtype=torch.float64)
        weights = centred.T @ torch.linalg.solve(gram, targets - targets.mean(dim=0))
    else:
        gram = centred.T @ centred + ridge * torch.eye(centred.shape[1], dtype=torch.float64)
        weights = torch.linalg.solve(gram, centred.T @ (targets - targets.mean(dim=0)))
    bias = targets.mean(dim=0) - mean @ weights
    return lambda other: other.flatten(1).double() @ weights + bias


def seen_by_references(
    subjects: Subjects, conditions: Sequence[Condition], file: Path, seed: int
) -> dict[str, Mapping[str, Tensor]]:
    """The classes that the references see in the probe under each condition; kept in a file.

    Args:
        subjects: the images.
        conditions: of the test images.
        file: read if it exists, else written.
        seed: of the patches, and of the noise that images are corrupted by.

    Returns:
        By `Condition.images`: the classes (N,) by the name of the reference.
    """
    found: dict[str, Mapping[str, Tensor]] = (
        torch.load(file, weights_only=True) if file.exists() else {}
    )
    missing = {c.images: c for c in conditions if c.images not in found}
    if missing:
        references = fitted(subjects, seed)
        for key, condition in missing.items():
            images = all_images(on_condition(subjects, condition, seed).probe)
            found[key] = {name: of(images).argmax(dim=1) for name, of in references.items()}
        file.parent.mkdir(parents=True, exist_ok=True)
        save_whole(found, file)
    return found
