"""The image sets of the recipes by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torchvision.datasets import CIFAR10

from recipes.shared.data.cluttered_digits import draw_digits
from recipes.shared.data.image_folder import image_folder
from recipes.shared.data.labelled_images import (
    PHOTO_PLAN,
    ImageData,
    TrainingPlan,
    assemble,
    shift_and_flip,
)
from recipes.shared.data.photographs import photographs

KNOWN = ("digits", "cifar10", "photographs", "image_folder")

_CHUNK = 1000
_TEST_SOURCES = 500


_DIGITS_PLAN = TrainingPlan(max_epochs=8, batch_size=64, learning_rate=2e-3)


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
    return assemble(
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
    return assemble("CIFAR-10", train_set, test_set, tuple(classes), PHOTO_PLAN, shift_and_flip)


def load(
    dataset: str,
    root: Path | None = None,
    seed: int = 0,
    image_size: int = 32,
    is_trained: bool = True,
) -> ImageData:
    """The image set of that name.

    Args:
        dataset: one of `KNOWN`.
        root: for `image_folder` the tree to read, for `cifar10` where to keep the download
            (default `data`).
        seed: the seed of the drawn digits; photographs do not depend on it.
        image_size: height and width in pixels that images of a folder are brought to.
        is_trained: whether a network is trained on them; else a folder needs no `train`.

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
    if dataset == "photographs":
        return photographs(image_size)
    if root is None:
        raise ValueError(
            "root is None, but dataset 'image_folder' needs the folder that holds train and test"
        )
    return image_folder(root, image_size, is_trained)
