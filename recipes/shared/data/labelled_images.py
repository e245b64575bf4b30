"""Labelled images as the recipes hand them out: bytes that are normalised batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

# Enough for the mean and standard deviation of a channel to three digits.
_IMAGES_FOR_MOMENTS = 10_000


@dataclass(frozen=True)
class TrainingPlan:
    """Settings that train an `ImageClassifier` well on two CPU cores."""

    max_epochs: int
    batch_size: int
    learning_rate: float


PHOTO_PLAN = TrainingPlan(max_epochs=8, batch_size=128, learning_rate=2e-3)


class LabelledImages(Dataset[tuple[Tensor, int]]):
    """Labelled images kept as bytes, handed out normalised.

    Args:
        images: uint8 images (N, 3, H, W), or what gives such a batch for `images[rows]`, a part of
            itself for `images.part(rows)`, and has a `len`, as an `ImageFiles`.
        labels: class indices (N,).
        mean: mean of each channel, in units of the 0..1 range.
        std: standard deviation of each channel, in the same units.
        augment: maps a uint8 batch (n, 3, H, W) to one of the same shape, anew at every access.
        classes: names of the classes in the order of the labels, which the monitor shows.
    """

    def __init__(
        self,
        images: Any,
        labels: Tensor,
        mean: Sequence[float],
        std: Sequence[float],
        augment: Callable[[Tensor], Tensor] | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        self.classes = tuple(classes)
        self.images, self.labels, self.augment = images, labels.long(), augment
        self.mean, self.std = tuple(mean), tuple(std)
        self._normalise = v2.Compose(
            [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
        )

    def __len__(self) -> int:
        """The number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One normalised float32 image (3, H, W) and its label."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """The items of a batch, prepared at once; a DataLoader prefers this to single items."""
        rows = torch.as_tensor(indices)
        batch = self.images[rows]
        if self.augment is not None:
            batch = self.augment(batch)
        return list(zip(self._normalise(batch), self.labels[rows].tolist(), strict=True))

    def part(self, rows: Tensor, augmented: bool = True) -> LabelledImages:
        """Some of the images, with the augmentation only if wanted."""
        augment = self.augment if augmented else None
        is_decoded = isinstance(self.images, Tensor)
        images = self.images[rows] if is_decoded else self.images.part(rows)
        labels = self.labels[rows]
        return LabelledImages(images, labels, self.mean, self.std, augment, self.classes)


@dataclass(frozen=True)
class ImageData:
    """A training and a test set that share classes and normalisation.

    Attributes:
        name: title for people.
        train: items are (float32 image (3, H, W), label).
        test: the same, never augmented.
        classes: class names in the order of the labels.
        mean: mean of each channel of the training images, in units of the 0..1 range.
        std: standard deviation of each channel, in the same units.
        plan: recommended training settings.
    """

    name: str
    train: LabelledImages
    test: LabelledImages
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    plan: TrainingPlan

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels."""
        return int(self.test[0][0].shape[-1])


def fewer_images(data: ImageData, train: int | None = None, test: int | None = None) -> ImageData:
    """Some of the images, drawn at random: always the same, and of a larger count these first.

    Args:
        data: the images, whose normalisation stays that of all.
        train: how many training images; all if not given.
        test: how many test images; all if not given.

    Raises:
        ValueError: if there are not that many.
    """
    return replace(
        data, train=_some("train", data.train, train), test=_some("test", data.test, test)
    )


def _some(name: str, images: LabelledImages, count: int | None) -> LabelledImages:
    if count is None:
        return images
    if not 0 < count <= len(images):
        raise ValueError(f"{name}={count}: give a number of {name} images from 1 to {len(images)}")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images.part(order[:count].sort().values)


def hold_out(data: ImageData, count: int, seed: int = 0) -> tuple[ImageData, LabelledImages]:
    """Training images that are kept from the training.

    Args:
        data: the images.
        count: how many to keep, drawn at random.
        seed: of the draw.

    Returns:
        The same data with the other training images, and those kept, never augmented.

    Raises:
        ValueError: unless some training images are left.
    """
    if not 0 < count < len(data.train):
        raise ValueError(
            f"count={count} of {len(data.train)} training images cannot be held out: at least one "
            "must be, and at least one must be left"
        )
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
    kept = data.train.part(order[:count], augmented=False)
    return replace(data, train=data.train.part(order[count:].sort().values)), kept


def shift_and_flip(images: Tensor, padding: int = 4) -> Tensor:
    """Each image of a batch (n, C, H, W) shifted by up to `padding` pixels and maybe mirrored."""
    n, _, height, width = images.shape
    top, left = torch.randint(2 * padding + 1, (2, n, 1))
    rows, columns = top + torch.arange(height), left + torch.arange(width)
    columns = torch.where(torch.rand(n, 1) < 0.5, columns, columns.flip(1))
    # Channels last, because indices on both sides of a slice move the slice to the end anyway.
    padded = F.pad(images, (padding,) * 4).permute(0, 2, 3, 1)
    return padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]].permute(
        0, 3, 1, 2
    )


def assemble(
    name: str,
    train: tuple[Any, Tensor],
    test: tuple[Any, Tensor],
    classes: tuple[str, ...],
    plan: TrainingPlan,
    augment: Callable[[Tensor], Tensor] | None = None,
) -> ImageData:
    """Training and test images, each with their labels, normalised by the training images."""
    some = torch.linspace(0, len(train[0]) - 1, min(len(train[0]), _IMAGES_FOR_MOMENTS)).long()
    mean, std = _channel_moments(train[0][some])
    return ImageData(
        name=name,
        train=LabelledImages(*train, mean, std, augment, classes),
        test=LabelledImages(*test, mean, std, classes=classes),
        classes=classes,
        mean=mean,
        std=std,
        plan=plan,
    )


def _channel_moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 images, in units of the 0..1 range."""
    values = torch.arange(256, dtype=torch.float64) / 255
    # Counts of the 256 byte values need no float copy of a large set.
    counts = torch.stack(
        [images[:, c].flatten().bincount(minlength=256) for c in range(3)]
    ).double()
    share = counts / counts.sum(1, keepdim=True)
    mean = share @ values
    variance = (share * (values - mean[:, None]) ** 2).sum(1)
    return tuple(mean.tolist()), tuple(variance.sqrt().clamp(min=1 / 255).tolist())
