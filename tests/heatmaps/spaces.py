"""Networks of each kind of input that is not images, and inputs for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

SHAPES = {"series": (3, 2, 24), "volumes": (3, 2, 6, 8, 7), "tables": (3, 9)}
TARGET = torch.tensor([0, 2, 1])


def inputs(kind: str, count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, *SHAPES[kind][1:], generator=generator, dtype=torch.float64)


def classifier(kind: str, *, plain: bool = False) -> nn.Sequential:
    """Convolutions of one or three dimensions, or linear layers; 3 classes.

    Args:
        kind: "series", "volumes" or "tables".
        plain: without dropout and normalisation, for oracles that know none.
    """
    torch.manual_seed(0)
    if kind == "tables":
        norm: list[nn.Module] = [] if plain else [nn.BatchNorm1d(16), nn.Dropout(0.25)]
        layers = [nn.Linear(9, 16), *norm, nn.ReLU(), nn.Linear(16, 16), nn.ReLU()]
        layers.append(nn.Linear(16, 3))
    else:
        convolution: Any = {"series": nn.Conv1d, "volumes": nn.Conv3d}[kind]
        pool: Any = {"series": nn.MaxPool1d, "volumes": nn.MaxPool3d}[kind]
        batch: Any = {"series": nn.BatchNorm1d, "volumes": nn.BatchNorm3d}[kind]
        norm = [] if plain else [batch(8), nn.Dropout(0.25)]
        layers = [
            convolution(2, 8, 3, padding=1), *norm, nn.ReLU(), pool(2),
            convolution(8, 16, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3),
        ]  # fmt: skip
    network = nn.Sequential(*layers).double().eval()
    network(inputs(kind))
    return network


class OverSteps(nn.Module):
    """Layers that see a series (N, C, L) as its steps (N, L, C); 3 classes from their mean."""

    def __init__(self, make: Callable[[], nn.Module], features: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.head = make(), nn.Linear(features, 3)
        self.double().eval()

    def forward(self, series: Tensor) -> Tensor:
        steps: Any = self.layer(series.transpose(1, 2))
        steps = steps[0] if isinstance(steps, tuple) else steps
        out: Tensor = self.head(steps.mean(dim=1))
        return out
