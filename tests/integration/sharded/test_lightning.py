"""The monitor under ModelParallelStrategy: values of one process, and the same training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from aopc_monitor import AOPCMonitor
from tests.integration.sharded.models import network
from tests.integration.sharded.training import MONITOR, Sharded, loaders, shards_of, trainer
from tests.integration.sharded.training import values_of as values_in
from tests.processes import run


def history_of(monitor: AOPCMonitor) -> list[dict[str, float]]:
    timed = ("seconds", "overhead")
    return [{k: v for k, v in r.items() if not k.endswith(timed)} for r in monitor.history]


def fit(world_size: int, folder: Path, callbacks: list[Any], **settings: Any) -> dict[str, Any]:
    """A training, and all that it leaves on this process."""
    pl.seed_everything(3, verbose=False)
    module = Sharded(settings.pop("shard", None), settings.pop("make", network))
    module.is_whole = world_size == 1
    made = trainer(world_size, folder, callbacks, **settings)
    made.fit(module, *loaders())
    return {"shards": shards_of(module, made), "values": values_in(made)}


def _work(rank: int, world_size: int, folder: Path) -> dict[str, Any]:
    monitor = AOPCMonitor(every_n_steps=1, on_error="raise", **MONITOR)
    return {
        "without": fit(world_size, folder, []),
        "with": fit(world_size, folder, [monitor]),
        "history": history_of(monitor),
    }


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run(_work, 2, tmp_path_factory.mktemp("ranks"), tmp_path_factory.mktemp("run"))


def test_training_is_bit_identical_shard_by_shard(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        plain, watched = found["without"]["shards"], found["with"]["shards"]
        assert len(plain) > 100
        assert plain.keys() == watched.keys()
        assert all(torch.equal(plain[name], watched[name]) for name in plain)


def test_all_processes_have_the_same_history(ranks: list[dict[str, Any]]) -> None:
    first, second = (found["history"] for found in ranks)
    assert [record["step"] for record in first] == [0, 1, 2, 3]
    assert first == second
    last = pytest.approx(first[-1]["aopc/lrp"])
    assert all(found["with"]["values"]["aopc/lrp"] == last for found in ranks)


def test_values_are_those_of_one_process(ranks: list[dict[str, Any]], tmp_path: Path) -> None:
    """Those at the start: what is trained on differs with the number of processes."""
    alone = AOPCMonitor(every_n_steps=1, on_error="raise", **MONITOR)
    fit(1, tmp_path, [alone])
    for found in ranks:
        assert found["history"][0] == pytest.approx(history_of(alone)[0], abs=1e-6)
    assert len(history_of(alone)[0]) > 10
