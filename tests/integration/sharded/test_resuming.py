"""Checkpoints of sharded trainings: the monitor's history goes on; faults end no training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed.checkpoint as dcp
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

from aopc_monitor import AOPC, AOPCMonitor
from tests.integration.sharded.models import fully_sharded, images, network
from tests.integration.sharded.test_lightning import history_of
from tests.integration.sharded.training import MONITOR, Sharded, loaders, shards_of, trainer
from tests.processes import run

pytestmark = pytest.mark.full
STEPS = 3


def fit(
    world_size: int, folder: Path, epochs: int, watched: bool, resumed: bool
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """A training that leaves a checkpoint, or goes on from it."""
    pl.seed_everything(3, verbose=False)
    module = Sharded()
    monitor = AOPCMonitor(every_n_steps=1, on_error="raise", **MONITOR)
    saving = ModelCheckpoint(folder, filename="kept", save_on_train_epoch_end=True)
    callbacks = [monitor, saving] if watched else [saving]
    made = trainer(world_size, folder, callbacks, max_epochs=epochs, enable_checkpointing=True)
    made.fit(module, *loaders(), ckpt_path=folder / "kept.ckpt" if resumed else None)
    assert (folder / "kept.ckpt" / ".metadata").exists(), "the checkpoint is not a distributed one"
    return shards_of(module, made), history_of(monitor)


def kept_as_a_text(folder: Path) -> tuple[list[Any], list[Any]]:
    """A history before and after it was in a checkpoint of a user's own, beside the weights."""
    monitor, other = (AOPCMonitor(every_n_steps=1, **MONITOR) for _ in range(2))
    made, module = trainer(2, folder, [monitor]), Sharded()
    made.fit(module, *loaders())
    state = {"model": get_model_state_dict(module), "monitor": json.dumps(monitor.state_dict())}
    dcp.save(state, checkpoint_id=folder / "own")
    state["monitor"] = ""
    dcp.load(state, checkpoint_id=folder / "own")
    other.load_state_dict(json.loads(str(state["monitor"])))
    return history_of(monitor), history_of(other)


def plain_torch(folder: Path) -> tuple[float, float]:
    """The value of a network, and of another one after it took over its checkpoint."""
    values = []
    for seed in (0, 1):
        model = fully_sharded(network(seed))
        if seed == 1:
            state = get_model_state_dict(model)
            dcp.load(state, checkpoint_id=folder)
            set_model_state_dict(model, state)
        metric = AOPC("lrp", region_size=3, steps=4, data_range=(0.0, 1.0))
        metric.update(model, images(8))
        values.append(float(metric.compute()))
        if seed == 0:
            dcp.save(get_model_state_dict(model), checkpoint_id=folder)
    return values[0], values[1]


def _resumed(rank: int, world_size: int, folder: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for watched in (True, False):
        place = folder / str(watched)
        fit(world_size, place, 1, watched, resumed=False)
        found[watched] = fit(world_size, place, 2, watched, resumed=True)
    texts = kept_as_a_text(folder / "texts")
    return {**found, "plain": plain_torch(folder / "plain"), "texts": texts}


def test_history_goes_on_after_a_checkpoint(tmp_path: Path) -> None:
    for found in run(_resumed, 2, tmp_path, tmp_path):
        (watched, history), (plain, _) = found[True], found[False]
        assert [record["step"] for record in history] == list(range(2 * STEPS + 1))
        assert all(torch.equal(plain[name], watched[name]) for name in plain)
        assert found["plain"][0] == found["plain"][1]
        before, after = found["texts"]
        assert before == after
        assert len(after) == STEPS + 1


class Failing(Sharded):
    """Fails in eval mode on one process or both, after the first step.

    Args:
        rank: of the process; both if -1.
    """

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank

    def forward(self, x: Tensor) -> Tensor:
        fails = not self.training and self.trainer.global_step > 0
        if fails and self.rank in (-1, self.global_rank):
            self.network[0](x)  # in the middle of the exchanges
            raise ValueError("only here")
        return super().forward(x)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass


def _failing(rank: int, world_size: int, folder: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for where in (None, 0, 1, -1):
        pl.seed_everything(3, verbose=False)
        module = Sharded() if where is None else Failing(where)
        monitor = AOPCMonitor(every_n_steps=1, on_error="warn", **MONITOR)
        made = trainer(world_size, folder, [] if where is None else [monitor])
        made.fit(module, *loaders())
        failures = made.callback_metrics.get("aopc/failures")
        found[where] = (
            shards_of(module, made), None if failures is None else float(failures)
        )  # fmt: skip
    return found


def test_a_failing_forward_changes_no_training(tmp_path: Path) -> None:
    for found in run(_failing, 2, tmp_path, tmp_path):
        plain, _ = found[None]
        for where in (0, 1, -1):
            shards, failures = found[where]
            assert failures == 3
            assert all(torch.equal(plain[name], shards[name]) for name in plain)
