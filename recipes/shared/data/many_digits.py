"""Several handwritten digits on one cluttered background: an image of several labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import TensorDataset

from recipes.shared.data.cluttered_digits import draw_digits

DIGITS, PLACES, SIDE = 10, 4, 48
# So many of the four places hold a digit.
FEWEST, MOST = 1, 3
_TEST_SOURCES, _CHUNK = 500, 1000


@dataclass(frozen=True)
class ManyDigits:
    """Images of one to three digits, and which ones.

    Attributes:
        train: items are (float32 image (3, 48, 48), normalised; labels (10,), 0 or 1).
        test: the same, of handwritten digits that occur in no training image.
        mean: mean of each channel of the training images, in units of the 0..1 range.
        std: standard deviation of each channel, in the same units.
    """

    train: TensorDataset
    test: TensorDataset
    mean: tuple[float, ...]
    std: tuple[float, ...]


def many_digits(seed: int = 0, train_size: int = 6_000, test_size: int = 1_000) -> ManyDigits:
    """Draw the images: a 2 x 2 grid of places, cluttered all over, one to three with a digit.

    The 1,797 digits that ship with scikit-learn are split first and drawn afterwards. A digit may
    come twice in an image, which is one label.

    Args:
        seed: decides the split and every random choice of the drawing.
        train_size: number of training images.
        test_size: number of test images.

    Example:
        >>> data = many_digits(train_size=20, test_size=4)
        >>> image, labels = data.train[0]
        >>> image.shape, labels.shape, 1 <= int(labels.sum()) <= 3
        (torch.Size([3, 48, 48]), torch.Size([10]), True)
    """
    source = load_digits()
    shapes = torch.from_numpy(source.images).float() / 16.0
    classes = torch.from_numpy(source.target)
    generator = torch.Generator().manual_seed(seed)
    rows = train_test_split(
        torch.arange(len(classes)), test_size=_TEST_SOURCES, stratify=classes, random_state=seed
    )
    sizes = (train_size, test_size)
    drawn = [
        _draw(shapes[of_split], classes[of_split], size, generator)
        for of_split, size in zip(rows, sizes, strict=True)
    ]
    images = drawn[0][0].float() / 255
    mean, std = images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3))
    train, test = (
        TensorDataset((x.float() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1), y.float())
        for x, y in drawn
    )
    return ManyDigits(train, test, tuple(mean.tolist()), tuple(std.tolist()))


def _draw(
    shapes: Tensor, classes: Tensor, size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """uint8 images (size, 3, 48, 48) and their labels (size, 10)."""
    picked = torch.randint(len(shapes), (size, PLACES), generator=generator)
    order = torch.rand(size, PLACES, generator=generator).argsort(dim=1).argsort(dim=1)
    count = torch.randint(FEWEST, MOST + 1, (size, 1), generator=generator)
    holds = order < count
    labels = torch.zeros(size, DIGITS, dtype=torch.long)
    labels.scatter_add_(1, classes[picked], holds.long())
    # A shape without ink leaves the clutter as it is.
    ink = shapes[picked] * holds[:, :, None, None]
    tiles = torch.cat([draw_digits(some, generator) for some in ink.flatten(0, 1).split(_CHUNK)])
    side = tiles.shape[-1]
    grid = tiles.view(size, 2, 2, 3, side, side).permute(0, 3, 1, 4, 2, 5)
    whole = grid.reshape(size, 3, 2 * side, 2 * side).float()
    images = torch.cat(
        [F.interpolate(some, size=(SIDE, SIDE), mode="area") for some in whole.split(_CHUNK)]
    )
    return images.round().to(torch.uint8), (labels > 0).long()
