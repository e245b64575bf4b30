"""Labelled tensors as the recipes hand them out: series, grey images, or numbers of words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from recipes.shared.data.labelled_images import TrainingPlan


class LabelledTensors(Dataset[tuple[Tensor, int]]):
    """Labelled tensors of one shape, as the network sees them.

    Args:
        tensors: (N, ...) floating point, or numbers of words (N, T).
        labels: class indices (N,).
        classes: names of the classes in the order of the labels, which the monitor shows.

    Raises:
        ValueError: unless there is one label for each tensor.

    Example:
        >>> series = LabelledTensors(torch.rand(3, 1, 20), torch.tensor([0, 1, 1]), ["a", "b"])
        >>> series[1][0].shape, series[1][1], len(series)
        (torch.Size([1, 20]), 1, 3)
    """

    def __init__(self, tensors: Tensor, labels: Tensor, classes: Sequence[str] = ()) -> None:
        if labels.shape != (len(tensors),):
            raise ValueError(
                f"labels has shape {tuple(labels.shape)} for {len(tensors)} tensors; give one for "
                "each, (N,)"
            )
        self.tensors = tensors if tensors.dtype is torch.long else tensors.float()
        self.labels, self.classes = labels.long(), tuple(classes)

    def __len__(self) -> int:
        """The number of tensors."""
        return len(self.tensors)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One tensor and its label."""
        return self.tensors[index], int(self.labels[index])

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """The items of a batch at once; a DataLoader prefers this to single items."""
        rows = torch.as_tensor(indices)
        return list(zip(self.tensors[rows], self.labels[rows].tolist(), strict=True))


@dataclass(frozen=True)
class TensorData:
    """A training and a test set that share classes.

    Attributes:
        name: title for people.
        train: items are (tensor, label), the tensor float32 or numbers of words.
        test: the same.
        classes: class names in the order of the labels.
        plan: recommended training settings.
    """

    name: str
    train: LabelledTensors
    test: LabelledTensors
    classes: tuple[str, ...]
    plan: TrainingPlan
