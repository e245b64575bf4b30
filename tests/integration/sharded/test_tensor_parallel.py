"""Tensor parallelism alone and with FSDP2: the values of one process, and the same training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from aopc_monitor import AOPCMonitor, estimate_aopc, heatmaps
from tests.integration.sharded.models import cut, fully_sharded, images, mlps
from tests.integration.sharded.test_lightning import fit, history_of
from tests.integration.sharded.training import MONITOR
from tests.processes import run

NAMES = [name for name in heatmaps.names() if name != "random"]
PROTOCOL: dict[str, Any] = {"region_size": 3, "steps": 4, "data_range": (0.0, 1.0)}


def heatmap_of(name: str, model: nn.Module) -> Tensor:
    made = heatmaps.with_data_range(heatmaps.get(name), (0.0, 1.0))
    return made(model, images(4), torch.tensor([0, 1, 2, 3]))


def shard(model: nn.Sequential, mesh: Any) -> nn.Module:
    """Under tensor parallelism, and FSDP2 if there are processes left for it."""
    cut(model, mesh["tensor_parallel"])
    if mesh["data_parallel"].size() == 1:
        return model
    return fully_sharded(model, mesh=mesh["data_parallel"])


def sharded(world_size: int) -> tuple[nn.Module, Any]:
    names = ("data_parallel", "tensor_parallel")
    mesh = init_device_mesh("cpu", (world_size // 2, 2), mesh_dim_names=names)
    return shard(mlps(), mesh), mesh["data_parallel"]


def _looks(rank: int, world_size: int, names: list[str]) -> dict[str, Any]:
    model, data = sharded(world_size)
    mine = images(16).split(4)[data.get_local_rank() :: data.size()]
    estimate = estimate_aopc(model, mine, **PROTOCOL)
    maps = {name: heatmap_of(name, model) for name in names}
    return {"maps": maps, "estimate": (estimate.aopc.mean, estimate.aopc.sem, estimate.num_images)}


def assert_values_of_one_process(ranks: list[dict[str, Any]]) -> None:
    estimate = estimate_aopc(mlps(), images(16).split(4), **PROTOCOL)
    expected = (estimate.aopc.mean, estimate.aopc.sem, 16)
    for found in ranks:
        assert found["estimate"] == pytest.approx(expected, abs=1e-6)
        for name, made in found["maps"].items():
            alone = heatmap_of(name, mlps())
            # Sums over processes are added up in another order.
            difference = (made - alone).abs().max() / alone.abs().max()
            assert difference < 2e-5, name


def test_two_processes_of_tensor_parallelism_see_what_one_sees(tmp_path: Path) -> None:
    assert_values_of_one_process(run(_looks, 2, tmp_path, ["lrp", "gradient_x_input", "grad_cam"]))


@pytest.mark.full
@pytest.mark.parametrize("world_size", [2, 4])
def test_every_heatmap_with_and_without_fsdp2(tmp_path: Path, world_size: int) -> None:
    assert_values_of_one_process(run(_looks, world_size, tmp_path, NAMES))


def _trainings(rank: int, world_size: int, folder: Path) -> dict[str, Any]:
    monitor = AOPCMonitor(every_n_steps=1, on_error="raise", **MONITOR)
    settings: dict[str, Any] = {"shard": shard, "make": mlps, "tensor_parallel": 2}
    return {
        "without": fit(world_size, folder, [], **settings)["shards"],
        "with": fit(world_size, folder, [monitor], **settings)["shards"],
        "history": history_of(monitor),
    }


@pytest.mark.full
@pytest.mark.parametrize("world_size", [2, 4])
def test_training_is_bit_identical_and_values_are_those_of_one(
    tmp_path: Path, world_size: int
) -> None:
    ranks = run(_trainings, world_size, tmp_path, tmp_path)
    alone = AOPCMonitor(every_n_steps=1, on_error="raise", **MONITOR)
    fit(1, tmp_path, [alone], make=mlps)
    for found in ranks:
        assert len(found["with"]) > 40
        assert all(torch.equal(found["with"][k], v) for k, v in found["without"].items())
        assert found["history"][0] == pytest.approx(history_of(alone)[0], abs=1e-6)
        assert found["history"] == ranks[0]["history"]
        assert len(found["history"]) == 4
