"""Batch normalisation behind a layer: its backward pass by factors is that of torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps import LRPAlphaBeta, LRPEpsilon
from aopc_monitor.heatmaps.rules import linear_readers

HEATMAPS = {
    "epsilon": LRPEpsilon(),
    "relative": LRPEpsilon(0.1, relative=True),
    "alpha-beta": LRPAlphaBeta(),
}


def trained(norm: nn.Module) -> nn.Module:
    """With statistics and parameters of its own."""
    for tensor in (norm.running_mean, norm.weight, norm.bias):
        if isinstance(tensor, Tensor):
            nn.init.normal_(tensor)
    return norm.requires_grad_(True)


def behind_convolutions(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), *layers, nn.Conv2d(4, 4, 2), nn.Flatten(), nn.Linear(4 * 9, 5)
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ReLU": lambda: behind_convolutions(trained(nn.BatchNorm2d(4)), nn.ReLU()),
    "ReLU in place": lambda: behind_convolutions(trained(nn.BatchNorm2d(4)), nn.ReLU(inplace=True)),
    "ReLU6 in place": lambda: behind_convolutions(trained(nn.BatchNorm2d(4)), nn.ReLU6(True)),
    "nothing": lambda: behind_convolutions(trained(nn.BatchNorm2d(4))),
    "without parameters": lambda: behind_convolutions(
        trained(nn.BatchNorm2d(4, affine=False)), nn.SiLU()
    ),
    "twice": lambda: behind_convolutions(
        trained(nn.BatchNorm2d(4)), trained(nn.BatchNorm2d(4)), nn.ReLU()
    ),
    "of vectors": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(3 * 36, 8), trained(nn.BatchNorm1d(8)), nn.GELU(), nn.Linear(8, 5)
    ),
}


@pytest.mark.parametrize("heatmap", HEATMAPS)
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_factors_give_the_backward_pass_of_torch(
    name: str, heatmap: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network, images = NETWORKS[name]().to(dtype).eval(), torch.randn(2, 3, 6, 6, dtype=dtype)
    expected = HEATMAPS[heatmap](network, images)
    monkeypatch.setattr(linear_readers, "MANY_NUMBERS", 0)
    torch.testing.assert_close(HEATMAPS[heatmap](network, images), expected, rtol=0, atol=0)
    assert expected.any()
