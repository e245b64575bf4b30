"""A training on the device with a monitor, by Lightning."""

from __future__ import annotations

import tempfile
import time

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from aopc_monitor import AOPCMonitor
from benchmarks.on_gpu.rows import synchronize
from benchmarks.on_gpu.subjects import Scale

DIFFERENT_BATCHES = 4


class Batches(Dataset[tuple[Tensor, Tensor]]):
    """A few batches on the device, again and again.

    Args:
        scale: how much is measured.
        batch_size: images in each.
        count: how many there are.
    """

    def __init__(self, scale: Scale, batch_size: int, count: int) -> None:
        total = DIFFERENT_BATCHES * batch_size
        self.images = scale.named("resnet18").some_images(total, scale.device).split(batch_size)
        self.labels = (torch.arange(total, device=scale.device) % 10).split(batch_size)
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        which = index % DIFFERENT_BATCHES
        return self.images[which], self.labels[which]


class Training(pl.LightningModule):
    """resnet18 by cross-entropy and SGD.

    Args:
        scale: how much is measured.
    """

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self.network = scale.named("resnet18").model(torch.device("cpu")).train()

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.network(images)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """A forward."""
        self(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with momentum."""
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


def watched_training(scale: Scale, steps: int) -> tuple[float, list[float]]:
    """Train, and return the seconds of the whole and of each evaluation."""
    batch_size = 8 if scale.quick else 64
    on_cuda = scale.device.type == "cuda"
    probe = scale.named("resnet18").some_images(16 if scale.quick else 128, torch.device("cpu"))
    monitor = AOPCMonitor(dataloader=probe, data_range=(0.0, 1.0), on_error="raise")
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            default_root_dir=folder,
            max_steps=steps,
            accelerator=scale.device.type,
            devices=1,
            precision="bf16-mixed" if on_cuda else "32-true",
            val_check_interval=steps // 2,
            limit_val_batches=2,
            logger=False,
            callbacks=[monitor],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        train, validation = (
            DataLoader(Batches(scale, batch_size, count), batch_size=None) for count in (steps, 2)
        )
        module, began = Training(scale), time.perf_counter()
        trainer.fit(module, train, validation)
        synchronize(scale.device)
    return time.perf_counter() - began, [record["aopc/seconds"] for record in monitor.history]
