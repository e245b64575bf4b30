"""A tree of image files: decoded once into memory, or at each access where it is too large."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ImageOps
from torch import Tensor
from torchvision.datasets import ImageFolder
from tqdm import tqdm

from recipes.shared.data.labelled_images import PHOTO_PLAN, ImageData, assemble, shift_and_flip
from recipes.shared.data.photograph_files import read_photograph

# Decoded images may take this much: CIFAR-10 takes 0.2 GB, ImageNet at 224 pixels 180 GB.
MOST_BYTES_IN_MEMORY = 4 * 2**30


class ImageFiles:
    """Image files that are decoded when they are asked for.

    Args:
        paths: the files.
        load: from a path to an RGB picture.
        image_size: height and width in pixels; the shorter side is resized to it, the rest cropped.
    """

    def __init__(self, paths: Sequence[str], load: Callable[[str], Any], image_size: int) -> None:
        self.paths, self.load, self.image_size = paths, load, image_size

    def __len__(self) -> int:
        """The number of files."""
        return len(self.paths)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """The images of these rows, uint8 (n, 3, image_size, image_size)."""
        return self._decoded([self.paths[row] for row in rows.tolist()])

    def part(self, rows: Tensor) -> ImageFiles:
        """The files of these rows, not decoded yet."""
        return ImageFiles([self.paths[row] for row in rows.tolist()], self.load, self.image_size)

    def in_memory(self, title: str) -> Tensor:
        """All of them."""
        return self._decoded(self.paths, title)

    def _decoded(self, paths: Sequence[str], title: str | None = None) -> Tensor:
        """The images of these files; with a progress bar if it has a title."""
        size = self.image_size
        images = torch.empty((len(paths), 3, size, size), dtype=torch.uint8)

        def decode(place: int) -> None:
            fitted = ImageOps.fit(self.load(paths[place]), (size, size))
            images[place] = torch.from_numpy(np.array(fitted)).permute(2, 0, 1)

        # Decoding leaves the interpreter's lock, so that threads share the work.
        with ThreadPoolExecutor() as pool:
            done = pool.map(decode, range(len(paths)))
            for _ in tqdm(done, title, len(paths), leave=False, disable=title is None):
                pass  # an error of a thread is raised here
        return images


def image_folder(path: Path, image_size: int = 32, is_trained: bool = True) -> ImageData:
    """Images from a tree `train/<class>/*` and `test/<class>/*`.

    Args:
        path: the folder that holds `train` and `test`.
        image_size: height and width in pixels; the shorter side is resized to it, the rest cropped.
        is_trained: whether a network is trained on them; else `train` is not needed.

    Raises:
        FileNotFoundError: if `path`, `train` or `test` is not a folder, or a class has no images.
        ValueError: if `train` and `test` hold different classes, or `image_size` is below 1.
    """
    if image_size < 1:
        raise ValueError(f"image_size must be at least 1 pixel; got {image_size}")
    path = Path(path)
    test = _open_split(path / "test")
    if not (is_trained or (path / "train").exists()):
        return _for_tests_only(path.resolve().name, test, image_size)
    train = _open_split(path / "train")
    if train.classes != test.classes:
        raise ValueError(
            f"image_folder {str(path)!r} has classes {train.classes} in train but {test.classes} "
            "in test; give both the same class folders"
        )
    return assemble(
        path.resolve().name,
        _images_and_labels(train, image_size),
        _images_and_labels(test, image_size),
        tuple(train.classes),
        PHOTO_PLAN,
        shift_and_flip,
    )


def _for_tests_only(name: str, test: ImageFolder, image_size: int) -> ImageData:
    images = _images_and_labels(test, image_size)
    data = assemble(name, images, images, tuple(test.classes), PHOTO_PLAN)
    return replace(data, train=data.train.part(torch.arange(0)))


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


def _images_and_labels(split: ImageFolder, image_size: int) -> tuple[Any, Tensor]:
    files = ImageFiles([path for path, _ in split.samples], read_photograph, image_size)
    labels = torch.tensor(split.targets)
    if len(files) * 3 * image_size**2 > MOST_BYTES_IN_MEMORY:
        return files, labels
    return files.in_memory(f"decoding {split.root}"), labels
