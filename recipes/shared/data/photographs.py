"""Photographs that come with a package, and what ImageNet calls things."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from recipes.shared.data.image_folder import ImageFiles
from recipes.shared.data.labelled_images import PHOTO_PLAN, ImageData, LabelledImages
from recipes.shared.data.photograph_files import read_photograph
from recipes.shared.training.efficientnet_lite import IMAGENET_MEAN, IMAGENET_STD

# Of scikit-image's own photographs those that are in its wheel and show things ImageNet knows.
FILES = (
    "astronaut.png", "camera.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg",
)  # fmt: skip
UNLABELLED = -1
# The 1,000 classes of ILSVRC2012 in their order, as numbers of WordNet (https://image-net.org).
SYNSETS = Path(__file__).with_name("imagenet_synsets.txt")


def photographs(image_size: int) -> ImageData:
    """Photographs that come with scikit-image, without labels; nothing is downloaded.

    Args:
        image_size: height and width in pixels; the shorter side is resized to it, the rest cropped.

    Raises:
        ModuleNotFoundError: if scikit-image is not installed; the message names the extra.
    """
    try:
        import skimage
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "dataset 'photographs' needs the package scikit-image: "
            'pip install "aopc-monitor[photographs]"'
        ) from error
    folder = Path(skimage.__file__).parent / "data"
    return unlabelled("scikit-image's photographs", [folder / name for name in FILES], image_size)


def unlabelled(name: str, files: Sequence[Path], image_size: int) -> ImageData:
    """Photographs without labels, all of them for the test, none for a training."""
    images = ImageFiles([str(file) for file in files], read_photograph, image_size).in_memory(name)
    test = LabelledImages(
        images, torch.full((len(images),), UNLABELLED), IMAGENET_MEAN, IMAGENET_STD
    )
    nothing = test.part(torch.arange(0))
    return ImageData(name, nothing, test, (), IMAGENET_MEAN, IMAGENET_STD, PHOTO_PLAN)


def with_known_classes(data: ImageData, categories: Sequence[str]) -> ImageData:
    """The same images with the classes of a network, and labels where these are known.

    Args:
        data: images whose classes are called as the network's, or by their numbers in WordNet.
        categories: the classes of the network.
    """
    names = {_plain(name): index for index, name in enumerate(categories)}
    if len(categories) == 1000:
        names |= {synset: index for index, synset in enumerate(SYNSETS.read_text().split())}
    known = torch.tensor(
        [*(names.get(_plain(name), UNLABELLED) for name in data.classes), UNLABELLED]
    )
    test = data.test.part(torch.arange(len(data.test)))
    test.labels, test.classes = known[test.labels], tuple(categories)
    return replace(data, test=test, classes=tuple(categories))


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").replace("-", " ")
