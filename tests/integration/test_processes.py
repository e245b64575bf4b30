"""Two gloo processes under DDP: the same numbers, the same training, one decision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn

from aopc_monitor import AOPCMonitor
from tests.modules import Classifier, loaders, trainer

pytestmark = pytest.mark.usefixtures("quick_processes")
SETTINGS: dict[str, Any] = {
    "heatmap": ["lrp", "sensitivity_l2"],
    "every_n_steps": 1,
    "region_size": 4,
    "steps": 3,
    "data_range": (0.0, 1.0),
}


def fit(path: Path, devices: int, callbacks: list[Any], **kwargs: Any) -> tuple[Any, pl.Trainer]:
    pl.seed_everything(3, verbose=False)
    module = kwargs.pop("module", Classifier)()
    strategy = "ddp_spawn" if devices > 1 else "auto"
    made = trainer(path, *callbacks, devices=devices, strategy=strategy, max_epochs=1, **kwargs)
    made.fit(module, *loaders())
    return {name: value.clone() for name, value in module.state_dict().items()}, made


@pytest.mark.parametrize("num_images", [40, 10])
def test_training_is_bit_identical_on_two_processes(tmp_path: Path, num_images: int) -> None:
    """With 10 images there is one block, and the second process has none."""
    monitor = AOPCMonitor(num_images=num_images, on_error="raise", **SETTINGS)
    without, _ = fit(tmp_path, 2, [])
    watched, made = fit(tmp_path, 2, [monitor])
    assert all(torch.equal(watched[name], without[name]) for name in without)
    assert "aopc/lrp" in made.callback_metrics


def brightest(images: Tensor) -> Tensor:
    """Which quadrant that is; on the second process as if it had rounded otherwise."""
    scores = nn.functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), 2).flatten(1)
    if dist.is_initialized() and dist.get_rank() == 1:
        scores = scores.clamp_max(0.6)
    return scores


@pytest.mark.parametrize("reference", [None, brightest])
def test_value_does_not_depend_on_the_number_of_processes(tmp_path: Path, reference: Any) -> None:
    values = []
    for devices in (1, 2):
        monitor = AOPCMonitor(num_images=40, on_error="raise", reference=reference, **SETTINGS)
        _, made = fit(tmp_path, devices, [monitor], limit_train_batches=1, module=Still)
        keys = [key for key in made.callback_metrics if key.startswith("aopc/")]
        values.append({key: float(made.callback_metrics[key]) for key in sorted(keys)})
        del values[-1]["aopc/seconds"], values[-1]["aopc/overhead"]
    assert values[0] == pytest.approx(values[1], abs=1e-6)
    assert len(values[0]) == (9 if reference is None else 11)


class Still(Classifier):
    """Neither learns nor keeps statistics: one and two processes look at the same network."""

    def __init__(self) -> None:
        super().__init__(
            nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 4))
        )

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class FailsOnOneProcess(Classifier):
    def forward(self, images: Tensor) -> Tensor:
        if not self.training and self.global_rank == 1 and self.trainer.global_step > 0:
            raise ValueError("only here")
        return super().forward(images)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass


def fails_on_one_process(images: Tensor) -> Tensor:
    if dist.get_rank() == 1:
        raise ValueError("only here")
    return brightest(images)


def test_a_reference_that_fails_on_one_process_stops_all_of_them(tmp_path: Path) -> None:
    monitor = AOPCMonitor(num_images=40, reference=fails_on_one_process, **SETTINGS)
    with pytest.raises(Exception, match="on process 1: reference= raised ValueError: only here"):
        fit(tmp_path, 2, [monitor])


def test_a_failure_on_one_process_hangs_nobody(tmp_path: Path) -> None:
    monitor = AOPCMonitor(num_images=40, on_error="warn", **SETTINGS)
    _, made = fit(tmp_path, 2, [monitor], module=FailsOnOneProcess)
    assert float(made.callback_metrics["aopc/failures"]) == 3
