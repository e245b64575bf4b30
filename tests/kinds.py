"""Small networks and data of each kind of input, for real trainings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.modules import Classifier

CLASSES = 2
SPACES = {
    "series": (3, 64),
    "volumes": (1, 6, 12, 10),
    "videos": (3, 6, 12, 10),
    "tables": (6,),
}


def network_of(kind: str) -> nn.Sequential:
    """With BatchNorm and dropout, as a training would have them."""
    channels, *space = SPACES[kind]
    if not space:
        layers: list[nn.Module] = [nn.Linear(channels, 8), nn.BatchNorm1d(8)]
    elif len(space) == 1:
        layers = [nn.Conv1d(channels, 8, 5, padding=2), nn.BatchNorm1d(8)]
    else:
        layers = [nn.Conv3d(channels, 8, 3, padding=1), nn.BatchNorm3d(8)]
    pool: dict[int, list[nn.Module]] = {
        0: [],
        1: [nn.AdaptiveAvgPool1d(4)],
        3: [nn.AdaptiveAvgPool3d(2)],
    }
    features = {0: 8, 1: 8 * 4, 3: 8 * 8}[len(space)]
    head = [nn.Flatten(), nn.Dropout(0.25), nn.Linear(features, CLASSES)]
    return nn.Sequential(*layers, nn.ReLU(), *pool[len(space)], *head)


def data_of(kind: str, count: int = 24, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise in [0, 1]; of class 1 the first half of the last dimension is brighter."""
    generator = torch.Generator().manual_seed(seed)
    inputs = 0.5 * torch.rand(count, *SPACES[kind], generator=generator)
    labels = torch.arange(count) % CLASSES
    inputs[labels == 1, ..., : inputs.shape[-1] // 2] += 0.5
    return inputs, labels


def loaders_of(kind: str) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """A training loader that shuffles, and a validation loader."""
    train, val = (TensorDataset(*data_of(kind, seed=seed)) for seed in (0, 1))
    return DataLoader(train, batch_size=8, shuffle=True), DataLoader(val, batch_size=8)


def module_of(kind: str) -> Classifier:
    """Automatic optimization with Adam."""
    return Classifier(network_of(kind))
