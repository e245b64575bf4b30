"""FSDP2 with plain torch: two processes see what one process sees, and leave no trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor import AOPC, estimate_aopc, heatmaps
from aopc_monitor.network.isolation import fingerprint, untouched
from tests.integration.sharded.models import (
    CLASSES,
    fully_sharded,
    images,
    network,
    sharded_layer_by_layer,
)
from tests.processes import run

PROTOCOL: dict[str, Any] = {"region_size": 3, "steps": 4, "data_range": (0.0, 1.0)}
NAMES = [name for name in heatmaps.names() if name != "random"]


def heatmap_of(name: str, model: nn.Module) -> Tensor:
    made = heatmaps.with_data_range(heatmaps.get(name), (0.0, 1.0))
    return made(model, images(4), torch.tensor([0, 1, 2, 3]))


def shares(rank: int, world_size: int) -> list[Tensor]:
    """Batches of one of several processes."""
    return list(images(24).split(4))[rank::world_size]


def metric_of(model: nn.Module, rank: int = 0, world_size: int = 1) -> float:
    metric = AOPC("lrp", **PROTOCOL)
    for batch in shares(rank, world_size):
        metric.update(model, batch)
    return float(metric.compute())


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    torch.manual_seed(5)
    F.cross_entropy(model(images(4, seed=2)), torch.arange(4) % CLASSES).backward()
    optimizer.step()


def trained(rank: int, looking: bool) -> list[Tensor]:
    """All shards and gradients after two steps, with looks in between or without."""
    model = fully_sharded(network())
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for _ in range(2):
        if looking:  # also before the first forward ever, and with gradients of the last step there
            heatmap_of("lrp", model)
            metric_of(model, rank, 2)
        step(model, optimizer)
    tensors = [*model.parameters(), *(p.grad for p in model.parameters()), *model.buffers()]
    return [getattr(tensor, "_local_tensor", tensor).detach().clone() for tensor in tensors]


def _work(rank: int, world_size: int) -> dict[str, Any]:
    model = fully_sharded(network())
    maps = {name: heatmap_of(name, model) for name in NAMES}
    layers = sharded_layer_by_layer(network())
    of_layers = {name: heatmap_of(name, layers) for name in NAMES}
    before = fingerprint(model)
    with torch.no_grad(), untouched(model):
        model(images(2))
    kept = fingerprint(model)
    with torch.no_grad():
        next(iter(model.parameters()))._local_tensor.mul_(2)
    return {
        "maps": maps,
        "maps of layers": of_layers,
        "metric": metric_of(fully_sharded(network()), rank, world_size),
        "estimate": estimate_aopc(
            fully_sharded(network()), shares(rank, world_size), **PROTOCOL
        ).aopc.mean,
        "trained": (trained(rank, looking=False), trained(rank, looking=True)),
        "fingerprints": (before, kept, fingerprint(model)),
    }


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run(_work, 2, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", NAMES)
def test_heatmaps_are_those_of_one_process(ranks: list[dict[str, Any]], name: str) -> None:
    expected = heatmap_of(name, network())
    for found in ranks:
        for maps in (found["maps"], found["maps of layers"]):
            torch.testing.assert_close(maps[name], expected, rtol=1e-5, atol=1e-7)


def test_values_are_those_of_one_process(ranks: list[dict[str, Any]]) -> None:
    expected = metric_of(network())
    estimated = estimate_aopc(network(), shares(0, 1), **PROTOCOL).aopc.mean
    for found in ranks:
        assert found["metric"] == pytest.approx(expected, abs=1e-6)
        assert found["estimate"] == pytest.approx(estimated, abs=1e-6)


def test_training_is_bit_identical_shard_by_shard(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        plain, watched = found["trained"]
        assert len(plain) > 20
        assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))


def test_a_changed_shard_is_seen(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        before, kept, _ = found["fingerprints"]
        assert before == kept
    # The first parameter's part of one process may be empty, but not those of both.
    assert any(found["fingerprints"][0] != found["fingerprints"][2] for found in ranks)
