"""Removal measures find on a device what they find on the CPU, random removals included."""

from __future__ import annotations

import torch
from torch import Tensor

from aopc_monitor.metrics import removal_measures
from tests.gpu.conftest import Within
from tests.gpu.networks import images, largest_error, network
from tests.metrics.functional.test_removal import ALL


def values(device: torch.device) -> Tensor:
    """(N, measures), with a generator on the CPU and so the same removals everywhere."""
    x, generator = images("cnn"), torch.Generator().manual_seed(5)
    results = removal_measures(
        network("cnn", device), x.to(device), x.mean(dim=1).to(device), ALL, region_size=4,
        generator=generator,
    )  # fmt: skip
    assert all(result.per_image.device.type == device.type for result in results)
    return torch.stack([result.per_image for result in results], dim=1).cpu()


def test_measures(device: torch.device, within: Within) -> None:
    within(largest_error(values(device), values(torch.device("cpu"))), 1e-4)
