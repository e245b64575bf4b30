"""The history of a training in processes that are copies of the one that began it."""

from __future__ import annotations

import copy
import gc
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from aopc_monitor import AOPCMonitor
from aopc_monitor.monitor.handover import Handover
from tests import processes
from tests.modules import Classifier, loaders, trainer

SETTINGS: dict[str, Any] = {
    "num_images": 8,
    "region_size": 4,
    "steps": 4,
    "data_range": (0.0, 1.0),
    "every_n_steps": 2,
}


class _MultiProcessingLauncher:
    """Of Lightning's name."""


def begun_by(launcher: Any, is_global_zero: bool = True) -> Any:
    return SimpleNamespace(
        strategy=SimpleNamespace(launcher=launcher), is_global_zero=is_global_zero
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_the_process_that_began_has_the_history_afterwards(tmp_path: Path) -> None:
    # Not in this process: once a test has compiled a training, autograd has threads, and no fork
    # of it can train.
    processes.start(_trained_here_and_in_a_fork, (tmp_path,), 1)


def _trained_here_and_in_a_fork(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module, here, forked = Classifier(), AOPCMonitor(**SETTINGS), AOPCMonitor(**SETTINGS)
    trainer(folder, here, max_epochs=1).fit(copy.deepcopy(module), *loaders())
    fitted = trainer(folder, forked, max_epochs=1, strategy="ddp_fork", devices=1)
    fitted.fit(module, *loaders())
    assert [record["step"] for record in forked.history] == [
        record["step"] for record in here.history
    ]
    # Later ones rest on batches that distributed training shuffles otherwise.
    assert forked.history[0]["aopc/lrp"] == here.history[0]["aopc/lrp"]
    evaluation = forked.evaluations[""]
    assert evaluation.forwards == here.evaluations[""].forwards
    assert evaluation.mean("lrp") == forked.history[-1]["aopc/lrp"]
    assert forked.state_dict()["history"] == forked.history


def leave_from_another_process(handover: Handover, launcher: Any, is_global_zero: bool) -> None:
    handover._home = -1  # as it is in a copy
    handover.leave(begun_by(launcher, is_global_zero), {"value": 3})
    handover._home = os.getpid()


def left_by_another_process(handover: Handover, launcher: Any, is_global_zero: bool) -> Any:
    leave_from_another_process(handover, launcher, is_global_zero)
    return handover.found()


def test_what_is_left_is_found_once() -> None:
    handover = Handover()
    assert left_by_another_process(handover, _MultiProcessingLauncher(), True) == {"value": 3}
    assert handover.found() is None
    assert not handover._path.exists()


@pytest.mark.parametrize(
    ("launcher", "is_global_zero"), [(None, True), (_MultiProcessingLauncher(), False)]
)
def test_only_one_copy_leaves_something(launcher: Any, is_global_zero: bool) -> None:
    assert left_by_another_process(Handover(), launcher, is_global_zero) is None


def test_the_process_itself_leaves_nothing() -> None:
    handover = Handover()
    handover.leave(begun_by(_MultiProcessingLauncher()), {"value": 3})
    assert not handover._path.exists()


def test_what_nobody_asks_for_goes_with_its_object() -> None:
    handover = Handover()
    leave_from_another_process(handover, _MultiProcessingLauncher(), True)
    path = handover._path
    assert path.exists()
    del handover
    gc.collect()
    assert not path.exists()


def test_a_copy_beside_it_keeps_its_own_file() -> None:
    handover = Handover()
    beside = copy.deepcopy(handover)
    leave_from_another_process(beside, _MultiProcessingLauncher(), True)
    del handover
    gc.collect()
    assert beside.found() == {"value": 3}
