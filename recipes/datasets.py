"""Image sets for the recipes, held in memory so that the cores train instead of decoding files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import ImageOps
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import CIFAR10, ImageFolder
from torchvision.transforms import v2
from tqdm import tqdm

from recipes.cluttered_digits import draw_digits

KNOWN = ("digits", "cifar10", "image_folder")

_CHUNK = 1000
_TEST_SOURCES = 500


@dataclass(frozen=True)
class TrainingPlan:
    """Settings that train `recipes.classifier.ImageClassifier` well on two CPU cores."""

    max_epochs: int
    batch_size: int
    learning_rate: float


_DIGITS_PLAN = TrainingPlan(max_epochs=8, batch_size=64, learning_rate=2e-3)
_PHOTO_PLAN = TrainingPlan(max_epochs=8, batch_size=128, learning_rate=2e-3)


class MemoryImages(Dataset[tuple[Tensor, int]]):
    """Labelled images kept as bytes, handed out normalised.

    Args:
        images: uint8 images (N, 3, H, W).
        labels: class indices (N,).
        mean: mean of each channel, in units of the 0..1 range.
        std: standard deviation of each channel, in the same units.
        augment: maps a uint8 batch (n, 3, H, W) to one of the same shape, anew at every access.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        mean: Sequence[float],
        std: Sequence[float],
        augment: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.images, self.labels, self.augment = images, labels.long(), augment
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
    train: MemoryImages
    test: MemoryImages
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    plan: TrainingPlan


def digits(seed: int = 0, train_size: int = 10_000, test_size: int = 2_000) -> ImageData:
    """Handwritten digits in bright colours, anywhere on cluttered 32 x 32 backgrounds.

    The 1,797 digits that ship with scikit-learn are split first and drawn afterwards, several times
    each, so that no digit of the test images occurs in a training image.

    Args:
        seed: decides the split and every random choice of the drawing.
        train_size: number of training images.
        test_size: number of test images.

    Raises:
        ValueError: if a size is below 1.
    """
    for argument, size in (("train_size", train_size), ("test_size", test_size)):
        if size < 1:
            raise ValueError(f"{argument} must be at least 1; got {size}")
    source = load_digits()
    shapes = torch.from_numpy(source.images).float() / 16.0
    labels = torch.from_numpy(source.target)
    generator = torch.Generator().manual_seed(seed)

    def draw(sources: Tensor, size: int) -> tuple[Tensor, Tensor]:
        picked = sources[torch.arange(size) % len(sources)]
        drawn = [draw_digits(shapes[some], generator) for some in picked.split(_CHUNK)]
        return torch.cat(drawn), labels[picked]

    train_sources, test_sources = _split_sources(source.target, seed)
    return _assemble(
        "digits on clutter",
        draw(train_sources, train_size),
        draw(test_sources, test_size),
        tuple(str(name) for name in source.target_names),
        _DIGITS_PLAN,
    )


def _split_sources(target: NDArray[np.int64], seed: int) -> tuple[Tensor, Tensor]:
    """Row numbers of the source digits for training and for testing, stratified by class."""
    train, test = train_test_split(
        np.arange(len(target)), test_size=_TEST_SOURCES, stratify=target, random_state=seed
    )
    return torch.from_numpy(train), torch.from_numpy(test)


def cifar10(root: Path) -> ImageData:
    """CIFAR-10, downloaded into `root` by torchvision unless it is there already."""

    def read(train: bool) -> tuple[list[str], tuple[Tensor, Tensor]]:
        part = CIFAR10(str(root), train=train, download=True)
        images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
        return part.classes, (images, torch.tensor(part.targets))

    classes, train_set = read(train=True)
    _, test_set = read(train=False)
    return _assemble("CIFAR-10", train_set, test_set, tuple(classes), _PHOTO_PLAN, shift_and_flip)


def image_folder(path: Path, image_size: int = 32) -> ImageData:
    """Images from a tree `train/<class>/*` and `test/<class>/*`, each decoded once.

    Args:
        path: the folder that holds `train` and `test`.
        image_size: height and width in pixels; the shorter side is resized to it, the rest cropped.

    Raises:
        FileNotFoundError: if `path`, `train` or `test` is not a folder, or a class has no images.
        ValueError: if `train` and `test` hold different classes, or `image_size` is below 1.
    """
    if image_size < 1:
        raise ValueError(f"image_size must be at least 1 pixel; got {image_size}")
    path = Path(path)
    train, test = (_open_split(path / split) for split in ("train", "test"))
    if train.classes != test.classes:
        raise ValueError(
            f"image_folder {str(path)!r} has classes {train.classes} in train but {test.classes} "
            "in test; give both the same class folders"
        )
    return _assemble(
        path.resolve().name,
        _decode(train, image_size),
        _decode(test, image_size),
        tuple(train.classes),
        _PHOTO_PLAN,
        shift_and_flip,
    )


def _open_split(folder: Path) -> ImageFolder:
    wanted = "image_folder wants train/<class>/* and test/<class>/*"
    if not folder.is_dir():
        raise FileNotFoundError(f"{wanted}, but {str(folder)!r} is not a folder; create it")
    try:
        return ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{wanted}, but in {str(folder)!r}: {error}; put images there or remove empty classes"
        ) from error


def _decode(split: ImageFolder, image_size: int) -> tuple[Tensor, Tensor]:
    def one(path: str) -> NDArray[np.uint8]:
        return np.asarray(ImageOps.fit(split.loader(path), (image_size, image_size)))

    paths = [path for path, _ in split.samples]
    with ThreadPoolExecutor() as pool:
        decoded = tqdm(pool.map(one, paths), f"decoding {split.root}", len(paths), leave=False)
        images = torch.from_numpy(np.stack(list(decoded)))
    return images.permute(0, 3, 1, 2).contiguous(), torch.tensor(split.targets)


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


def _assemble(
    name: str,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    classes: tuple[str, ...],
    plan: TrainingPlan,
    augment: Callable[[Tensor], Tensor] | None = None,
) -> ImageData:
    mean, std = _channel_moments(train[0])
    return ImageData(
        name=name,
        train=MemoryImages(*train, mean, std, augment),
        test=MemoryImages(*test, mean, std),
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


def load(dataset: str, root: Path | None = None, seed: int = 0) -> ImageData:
    """The image set of that name.

    Args:
        dataset: one of `KNOWN`.
        root: for `image_folder` the tree to read, for `cifar10` where to keep the download
            (default `data`).
        seed: the seed of the drawn digits; photographs do not depend on it.

    Raises:
        ValueError: if `dataset` is unknown, or `root` is missing or of no use for it.
    """
    if dataset not in KNOWN:
        raise ValueError(f"dataset must be one of {', '.join(KNOWN)}; got {dataset!r}")
    if dataset == "digits":
        if root is not None:
            raise ValueError(
                f"root {str(root)!r} is of no use for dataset 'digits', which is drawn; "
                "choose 'image_folder' to read that folder"
            )
        return digits(seed)
    if dataset == "cifar10":
        return cifar10(root or Path("data"))
    if root is None:
        raise ValueError(
            "root is None, but dataset 'image_folder' needs the folder that holds train and test"
        )
    return image_folder(root)
