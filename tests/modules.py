"""Small networks and Lightning modules that the tests train."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset


def small_network(classes: int = 4) -> nn.Sequential:
    """Convolution, BatchNorm and dropout on (N, 3, 16, 16)."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Dropout(0.25),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Dropout2d(0.1),
        nn.Flatten(),
        nn.Linear(8 * 8 * 8, classes),
    )


class Quadrants(Dataset[tuple[Tensor, int]]):
    """Noise in [0, 1] with one bright quadrant, whose number is the label."""

    def __init__(self, count: int = 48, *, augment: bool = False, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(count) % 4
        self.images = 0.5 * torch.rand(count, 3, 16, 16, generator=generator)
        for image, label in zip(self.images, self.labels.tolist(), strict=True):
            row, column = divmod(label, 2)
            image[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 0.5
        self.augment = augment

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        if self.augment:  # one draw from each global generator
            scale = 1 + 0.1 * (random.random() + np.random.rand() + float(torch.rand(())))  # noqa: NPY002
            image = (image * scale).clamp(0, 1)
        return image, int(self.labels[index])


def loaders(**kwargs: Any) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """A training loader with augmentation and a validation loader."""
    return (
        DataLoader(Quadrants(augment=True), batch_size=8, shuffle=True, **kwargs),
        DataLoader(Quadrants(40, seed=1), batch_size=8, **kwargs),
    )


class Classifier(pl.LightningModule):
    """Automatic optimization with Adam."""

    def __init__(self, network: nn.Module | None = None) -> None:
        super().__init__()
        self.network = small_network() if network is None else network

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.network(images)
        return outputs

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self(images), labels)
        self.log("loss/train", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        self.log("accuracy/val", (self(images).argmax(1) == labels).float().mean())

    test_step = validation_step

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class ManualClassifier(Classifier):
    """Manual optimization with two optimizers."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        for optimizer in self.optimizers():  # type: ignore[union-attr]
            optimizer.zero_grad()
            self.manual_backward(F.cross_entropy(self(images), labels))
            optimizer.step()

    def configure_optimizers(self) -> Any:
        first, last = self.network[0], self.network[-1]  # type: ignore[index]
        return [
            torch.optim.Adam(first.parameters(), lr=1e-3),
            torch.optim.SGD(last.parameters(), lr=1e-2, momentum=0.9),
        ]


def trainer(tmp_path: Any, *callbacks: Any, **kwargs: Any) -> pl.Trainer:
    """A quiet CPU trainer."""
    settings: dict[str, Any] = {
        "default_root_dir": tmp_path,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "max_epochs": 2,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": list(callbacks),
    }
    return pl.Trainer(**{**settings, **kwargs})
