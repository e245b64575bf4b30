"""The comparison can fail: whatever a callback leaves behind is found."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from aopc_monitor import AOPCMonitor
from tests.integration.no_trace.cases import FACTORS, SHARDED, Case, title
from tests.integration.no_trace.comparison import SETTINGS, both_traces, differences
from tests.integration.no_trace.training import train
from tests.processes import run

PLAIN = Case(*(values[0] for values in FACTORS.values()))._replace(normalization="batch_norm")


class Meddles(pl.Callback):
    """Does one thing at the end of the training, so that nothing else follows from it."""

    def __init__(self, action: Callable[[Any, Any], object]) -> None:
        self.action = action

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.action(trainer, pl_module)


def changed_weight(trainer: Any, pl_module: Any) -> None:
    pl_module.network.head[1].bias.data[0] += 1e-6


def changed_statistics(trainer: Any, pl_module: Any) -> None:
    pl_module.network.stem[1].num_batches_tracked += 1


def changed_momentum(trainer: Any, pl_module: Any) -> None:
    next(iter(trainer.optimizers[0].state.values()))["momentum_buffer"][0] += 1e-6


ACTIONS: dict[str, Callable[[Any, Any], object]] = {
    "random torch": lambda trainer, module: torch.rand(1),
    "random numpy": lambda trainer, module: np.random.rand(),  # noqa: NPY002
    "random python": lambda trainer, module: random.random(),
    "weights and buffers": changed_weight,
    "requires_grad": lambda trainer, module: module.network.stem.requires_grad_(False),
    "modes": lambda trainer, module: module.network.middle[3].train(
        not module.network.middle[3].training
    ),
    "optimizers": changed_momentum,
    "schedulers": lambda trainer, module: trainer.lr_scheduler_configs[0].scheduler.step(),
    "callback metrics": lambda trainer, module: trainer.callback_metrics.popitem(),
    "logged metrics": lambda trainer, module: trainer.logged_metrics.popitem(),
    "logged": lambda trainer, module: trainer.logger.log_metrics({"loss/val": 0.0}, step=3),
}


@pytest.mark.parametrize("part", ACTIONS)
def test_what_a_callback_leaves_behind_is_found(part: str, tmp_path: Path) -> None:
    without, meddled = both_traces(
        PLAIN._replace(overfit_batches="2"), tmp_path / "training", lambda: [Meddles(ACTIONS[part])]
    )
    found = list(differences(without, meddled))
    assert found
    assert any(line.startswith(f"[{part!r}]") for line in found)


def test_changed_statistics_are_found(tmp_path: Path) -> None:
    without, meddled = both_traces(
        PLAIN, tmp_path / "training", lambda: [Meddles(changed_statistics)]
    )
    assert [line.split("]")[0] for line in differences(without, meddled)] == [
        "['weights and buffers'"
    ]


class Forgets(pl.Callback):
    """Drops the gradients after the last batch, when nobody needs them any more."""

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == trainer.estimated_stepping_batches:
            pl_module.zero_grad()


def test_changed_gradients_are_found(tmp_path: Path) -> None:
    without, forgot = both_traces(PLAIN, tmp_path / "training", lambda: [Forgets()])
    found = list(differences(without, forgot))
    assert found
    assert all(line.startswith("['after each batch'][11]['gradients']") for line in found)


class Draws(pl.Callback):
    """Draws one number as the training starts."""

    def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
        torch.rand(1)


def test_one_random_number_at_the_start_changes_the_training(tmp_path: Path) -> None:
    without, drawn = both_traces(PLAIN, tmp_path / "training", lambda: [Draws()])
    parts = {line.split("]")[0] for line in differences(without, drawn)}
    assert {"['weights and buffers'", "['logged'", "['files'"} <= parts


class Remembers(pl.Callback):
    """Another callback, whose state in the checkpoint depends on who was there."""

    def __init__(self, state: int) -> None:
        self.state = state

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.state}


def test_states_of_other_callbacks_in_the_checkpoints_are_compared(tmp_path: Path) -> None:
    folder = tmp_path / "training"
    one, _ = train(PLAIN, folder, lambda: [Remembers(1)], 1)
    other, _ = train(PLAIN, folder, lambda: [Remembers(2)], 1)
    found = list(differences(one, other))
    assert found
    assert all(line.startswith("['files']") and "Remembers" in line for line in found)


@pytest.mark.parametrize(
    ("one", "other", "are_same"),
    [
        (float("nan"), float("nan"), True),
        (0.0, -0.0, False),
        (torch.tensor(float("nan")), torch.tensor(float("nan")), True),
        (torch.tensor([0.0]), torch.tensor([-0.0]), False),
        (torch.zeros(2), torch.zeros(2, 1), False),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int32), False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([1, 2], (1, 2), False),
        ([1], [1, 2], False),
        (np.array([1.0]), np.array([1.0]), True),
    ],
)
def test_values_are_compared_bit_by_bit(one: object, other: object, are_same: bool) -> None:
    assert (not list(differences(one, other))) == are_same


def changed_shard(trainer: Any, pl_module: Any) -> None:
    if trainer.global_rank == 1:
        with torch.no_grad():
            pl_module.network.head[1].weight.to_local()[0, 0] += 1e-3


def _meddled(rank: int, count: int, case: Case, folder: Path) -> tuple[list[str], Any]:
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0")
    without, meddled = both_traces(case, folder, lambda: [Meddles(changed_shard)], count)
    shapes = {name: value.shape for name, value in without["weights and buffers"].items()}
    return list(differences(without, meddled)), shapes["network.head.1.weight"]


@pytest.mark.full
@pytest.mark.parametrize("case", [SHARDED[0]._replace(resumed="no"), SHARDED[2]], ids=title)
def test_a_shard_that_one_process_changed_is_found(case: Case, tmp_path: Path) -> None:
    (first, shape), (second, same_shape) = run(_meddled, 2, tmp_path, case, tmp_path / "training")
    assert shape == same_shape == (8, 512), "a half of the weights on each"
    assert first == []
    assert [line.split(":")[0] for line in second] == [
        "['weights and buffers']['network.head.1.weight']"
    ]


def writes(model: Any, images: Tensor, target: Tensor) -> Tensor:
    """A heatmap that turns its model a little."""
    with torch.no_grad():
        model.network.head[1].weight.mul_(1.0)
    return images.sum(1)


def test_a_heatmap_that_writes_to_a_parameter_stops_the_training_and_is_named(
    tmp_path: Path,
) -> None:
    monitor = AOPCMonitor({"writes": writes}, num_images=6, **SETTINGS)
    with pytest.raises(RuntimeError, match=r"changed .*network\.head\.1\.weight"):
        train(PLAIN, tmp_path / "training", lambda: [monitor], 1)
