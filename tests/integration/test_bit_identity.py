"""Training with the monitor is bit-identical to training without it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from aopc_monitor import AOPCMonitor
from tests.modules import Classifier, ManualClassifier, loaders, small_network, trainer


def frozen_batch_norm() -> Classifier:
    """BatchNorm stays in eval mode, the first convolution does not learn."""

    class Frozen(Classifier):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            self.network[1].eval()  # type: ignore[index]

    module = Frozen()
    module.network[0].requires_grad_(False)  # type: ignore[index]
    return module


def compiled() -> Classifier:
    return Classifier(torch.compile(small_network(), backend="eager"))  # type: ignore[arg-type]


CASES: dict[str, tuple[Callable[[], Classifier], dict[str, Any]]] = {
    "adam, dropout, batch norm, augmentation": (Classifier, {}),
    "accumulation": (Classifier, {"accumulate_grad_batches": 2}),
    "clipping and validation in mid-epoch": (
        Classifier,
        {"gradient_clip_val": 0.1, "val_check_interval": 2},
    ),
    "manual optimization": (ManualClassifier, {}),
    "frozen layers": (frozen_batch_norm, {}),
    "bf16-mixed": (Classifier, {"precision": "bf16-mixed"}),
    "bf16-true": (Classifier, {"precision": "bf16-true"}),
    "64-true": (Classifier, {"precision": "64-true"}),
    "no sanity check, limited validation": (
        Classifier,
        {"num_sanity_val_steps": 0, "limit_val_batches": 1},
    ),
    "deterministic, anomaly detection": (
        Classifier,
        {"deterministic": True, "detect_anomaly": True},
    ),
    "compiled": (compiled, {}),
}


def train(
    make: Callable[[], Classifier], path: Path, callbacks: list[Any], **kwargs: Any
) -> dict[str, Any]:
    """Everything that a training leaves behind."""
    pl.seed_everything(7, verbose=False)
    module = make()
    fit = trainer(path, *callbacks, **kwargs)
    fit.fit(module, *loaders())
    return {
        "weights": {name: value.clone() for name, value in module.state_dict().items()},
        "optimizers": [optimizer.state_dict() for optimizer in fit.optimizers],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1],  # noqa: NPY002
        "python": random.getstate(),
        "accuracy": fit.callback_metrics["accuracy/val"],
        "modes": [submodule.training for submodule in module.modules()],
        "requires_grad": [p.requires_grad for p in module.parameters()],
    }


def assert_equal(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, np.ndarray):
        assert (one == other).all()
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    else:
        assert one == other


@pytest.mark.parametrize("case", CASES)
def test_training_is_bit_identical(case: str, tmp_path: Path) -> None:
    make, settings = CASES[case]
    monitor = AOPCMonitor(
        ["lrp", "deconvolution_l2", "sensitivity_l2"],
        every_n_steps=1,
        num_images=6,
        region_size=4,
        steps=3,
        data_range=(0.0, 1.0),
        on_error="raise",
    )
    without = train(make, tmp_path, [], **settings)
    with_monitor = train(make, tmp_path, [monitor], **settings)
    assert len(monitor.history) > 4
    assert_equal(with_monitor, without)


def test_training_noise_would_be_noticed(tmp_path: Path) -> None:
    """The comparison can fail: one draw from a global generator is enough."""

    class Draws(pl.Callback):
        def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
            torch.rand(1)

    with pytest.raises(AssertionError):
        assert_equal(train(Classifier, tmp_path, [Draws()]), train(Classifier, tmp_path, []))
