"""Figures under DDP: one process draws, and none waits for another in vain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

pytest.importorskip("matplotlib")

from aopc_monitor import AOPCMonitor
from tests.modules import Classifier, loaders, trainer

pytestmark = pytest.mark.long


def fit(path: Path, module: pl.LightningModule, **changes: Any) -> pl.Trainer:
    """One epoch in two processes, of three steps each."""
    monitor = AOPCMonitor(num_images=20, region_size=4, steps=3, data_range=(0.0, 1.0), **changes)
    made = trainer(path, monitor, devices=2, strategy="ddp_spawn", max_epochs=1)
    made.fit(module, *loaders())
    return made


def test_training_is_bit_identical_and_pictures_are_drawn_once(tmp_path: Path) -> None:
    states = []
    for figures in (True, False):
        pl.seed_everything(3, verbose=False)
        module = Classifier()
        fit(tmp_path / str(figures), module, figures=figures, on_error="raise")
        states.append(module.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])
    assert len(list(tmp_path.rglob("*.png"))) == 6
    assert not (tmp_path / "False" / "aopc_figures").exists()


class FailsOnOneProcess(Classifier):
    def forward(self, images: Tensor) -> Tensor:
        if len(images) == 6 and self.global_rank == 1:  # the shown ones
            raise ValueError("only here")
        return super().forward(images)


def test_a_picture_that_fails_on_one_process_hangs_nobody(tmp_path: Path) -> None:
    made = fit(tmp_path, FailsOnOneProcess(), figures=True)
    assert {"aopc/lrp", "accuracy/val"} <= set(made.callback_metrics)
    assert list(tmp_path.rglob("*.png")) == []
