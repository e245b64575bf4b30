"""A training on the device with the monitor is bit-identical to one without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from aopc_monitor import AOPCMonitor
from tests.modules import Classifier, loaders, trainer

STEPS = {"cuda": 200, "cpu": 8}


def strided_network() -> nn.Module:
    """Without pooling, whose backward pass adds up in any order on CUDA."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Dropout2d(0.1),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(8 * 8 * 8, 4),
    )


def left_behind(
    device: torch.device, precision: str, monitors: list[AOPCMonitor], folder: Path
) -> dict[str, Any]:
    """What a training of a fixed seed ends with, as nested lists of tensors and numbers."""
    pl.seed_everything(7, verbose=False)
    module = Classifier(strided_network())
    fit = trainer(
        folder,
        *monitors,
        accelerator=device.type,
        precision=precision,
        max_epochs=-1,
        max_steps=STEPS[device.type],
        deterministic=True,
        check_val_every_n_epoch=4,
        limit_val_batches=2,
    )
    fit.fit(module, *loaders())
    used = device.type == "cuda"
    logged = {k: v for k, v in fit.callback_metrics.items() if not k.startswith("aopc/")}
    return {
        "weights": module.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in fit.optimizers],
        "scaler": fit.precision_plugin.state_dict(),
        "logged": logged,
        "generators": [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if used else [])],
    }


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two nested values are not the same bit by bit."""
    if isinstance(one, dict) and one.keys() == other.keys():
        return [line for key in one for line in differences(one[key], other[key], f"{where}/{key}")]
    if isinstance(one, (list, tuple)) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, f"{where}/{i}")]
    same = torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    return [] if same else [where]


@pytest.mark.parametrize("precision", ["32-true", "16-mixed", "bf16-mixed"])
def test_bit_identical(precision: str, device: torch.device, tmp_path: Path) -> None:
    if precision == "16-mixed" and device.type == "cpu":
        pytest.skip("Lightning scales no losses on a CPU")
    monitor = AOPCMonitor(
        ["lrp", "sensitivity_l2"],
        every_n_steps=STEPS[device.type] // 4,
        num_images=20,
        region_size=4,
        steps=6,
        data_range=(0.0, 1.0),
        on_error="raise",
    )
    without = left_behind(device, precision, [], tmp_path)
    watched = left_behind(device, precision, [monitor], tmp_path)
    assert len(monitor.history) >= 4
    changed = differences(without, watched)
    if changed:
        again = left_behind(device, precision, [], tmp_path)
        assert differences(without, again) == [], "the training itself differs each time"
    assert changed == []


def test_a_difference_is_seen() -> None:
    one = {"a": [torch.zeros(2), 1], "b": {}}
    assert differences(one, {"a": [torch.tensor([0.0, 1e-45]), 1], "b": {}}) == ["/a/0"]
    assert differences(one, {"a": [torch.zeros(2), 2], "b": {}}) == ["/a/1"]
    assert differences(one, {"a": [torch.zeros(2)], "b": {}}) == ["/a"]
