"""What is known of models whose parameters are spread over processes, without any process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import AOPC, heatmaps
from aopc_monitor.network.isolation import fingerprint
from aopc_monitor.network.sharded import (
    UnsupportedShardingError,
    compute_device,
    is_first_copy,
    is_sharded,
    local_part,
)
from aopc_monitor.network.wrappers import network_of


class FullyShardedDataParallel(nn.Module):
    """Goes by the name of FSDP1's wrapper, which a process alone cannot have on a CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))


def of_stage_3() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))
    model[1].weight.ds_tensor = torch.zeros(3)
    return model


class DeepSpeedEngine(nn.Module):
    """Goes by the name of DeepSpeed's engine, around a network that is whole."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("its own forward is for training")


def test_the_network_in_an_engine_of_deepspeed_is_looked_at() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))
    images, target = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
    with network_of(DeepSpeedEngine(network), images) as (found, handed_on):
        assert (found, handed_on) == (network, images)
    lrp = heatmaps.get("lrp")
    assert torch.equal(lrp(DeepSpeedEngine(network), images, target), lrp(network, images, target))


@pytest.mark.parametrize(("make", "name"), [(FullyShardedDataParallel, "FSDP1"), (of_stage_3, "3")])
def test_memory_that_was_given_back_is_not_read(make: Callable[[], nn.Module], name: str) -> None:
    metric = AOPC("lrp", region_size=4, steps=2, data_range=(0.0, 1.0))
    for look in (
        lambda: metric.update(make(), torch.rand(2, 3, 8, 8)),
        lambda: heatmaps.get("lrp")(make(), torch.rand(2, 3, 8, 8), torch.tensor([0, 1])),
        lambda: fingerprint(make()),
    ):
        with pytest.raises(UnsupportedShardingError, match=rf"{name}.*use FSDP2"):
            look()


def test_a_model_of_one_process_is_whole() -> None:
    model = nn.Linear(2, 2)
    assert not is_sharded(model)
    assert is_first_copy(model)
    assert compute_device(model) == torch.device("cpu")
    assert compute_device(nn.Identity()) == torch.device("cpu")
    assert local_part(model.weight) is model.weight
