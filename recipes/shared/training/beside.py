"""Accuracy on all test images, and what rivals of AOPC say of it, whenever a monitor looks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from aopc_monitor import AOPCMonitor
from aopc_monitor.metrics import (
    average_thresholded_confidence,
    confidence,
    negative_entropy,
)
from aopc_monitor.monitor import publish
from aopc_monitor.network import untouched

ACCURACY = "accuracy/test"


class LabelFreeRivals(pl.Callback):
    """Logs accuracy and its label-free rivals whenever the monitor has made an evaluation.

    Must follow the monitor in the trainer's list of callbacks. One pass over the images gives all:

    - `accuracy/test`: share of correct predictions on the test images, 0 to 1;
    - `rivals/confidence`: their mean probability of the predicted class, 0 to 1;
    - `rivals/negative_entropy`: their mean negative entropy, in nats;
    - `rivals/atc_confidence`, `rivals/atc_entropy`: the accuracy on them that average thresholded
      confidence guesses from the labelled source images, 0 to 1; only with a source.

    Args:
        monitor: the monitor to keep pace with.
        loader: batches of (images, labels) of the test set.
        source: batches of (images, labels) held out of the training.

    Attributes:
        points: one dict per evaluation of the monitor: "step" and the keys above.
    """

    def __init__(
        self, monitor: AOPCMonitor, loader: DataLoader[Any], source: DataLoader[Any] | None = None
    ) -> None:
        self.monitor = monitor
        self.loader = loader
        self.source = source
        self.points: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """The points, so that a resumed training goes on with them."""
        return {"points": self.points}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the points of a checkpoint."""
        self.points = [dict(point) for point in state_dict["points"]]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """A new training begins without points, as the monitor begins without a history."""
        if stage == "fit" and trainer.global_step == 0:
            self.points = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A point before the first step."""
        self._keep_pace(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object
    ) -> None:
        """A point after a step at which the monitor looked."""
        self._keep_pace(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A point at a validation at which the monitor looked."""
        self._keep_pace(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A point in the end."""
        self._keep_pace(trainer, pl_module)

    def point(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, float]:
        """All numbers of the network as it is now, the same on every process."""
        target = scores_of_images(trainer, pl_module, self.loader)
        source = None
        if self.source is not None:
            source = scores_of_images(trainer, pl_module, self.source)
        return rivals(target, source)

    def _keep_pace(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if len(self.monitor.history) > len(self.points):
            point = self.point(trainer, pl_module)
            self.points.append({"step": trainer.global_step, **point})
            finite = {key: value for key, value in point.items() if math.isfinite(value)}
            publish(trainer, finite, progress_bar=(ACCURACY,))


def scores_of_images(
    trainer: pl.Trainer, pl_module: pl.LightningModule, loader: DataLoader[Any]
) -> dict[str, Tensor]:
    """What the network says of each image; each process takes its share of the batches.

    Args:
        trainer: the Lightning trainer.
        pl_module: its module, which returns logits (N, classes).
        loader: batches of (images, labels) of a data set in its order, the same on every process.

    Returns:
        "correct" (0 or 1), "confidence" and "negative_entropy", (N,) each: the same on every
        process.
    """
    found = torch.zeros(3, len(loader.dataset), device=pl_module.device)  # type: ignore[arg-type]
    precision, strategy = trainer.precision_plugin, trainer.strategy
    with untouched(pl_module), torch.no_grad(), precision.forward_context():
        for rows, batch in own_batches(loader, trainer.global_rank, trainer.world_size):
            images, labels = strategy.batch_to_device(batch)
            logits = pl_module(precision.convert_input(images)).float()
            probabilities = logits.softmax(dim=1)
            found[0, rows] = (logits.argmax(dim=1) == labels).float()
            found[1, rows] = confidence(probabilities)
            found[2, rows] = negative_entropy(probabilities)
    # What other processes looked at is zero here, so that the sum is what all of them saw.
    correct, certainty, entropy = strategy.reduce(found, reduce_op="sum")
    return {"correct": correct, "confidence": certainty, "negative_entropy": entropy}


def own_batches(
    loader: DataLoader[Any], rank: int, processes: int
) -> Iterator[tuple[list[int], Any]]:
    """Every so many batches of a loader; the images of the others are not even decoded.

    Args:
        loader: of a data set in its order.
        rank: of the process, from 0.
        processes: how many there are.

    Yields:
        The rows of a batch, and the batch.
    """
    rows = list(loader.batch_sampler or ())[rank::processes]
    own = DataLoader(loader.dataset, batch_sampler=rows, collate_fn=loader.collate_fn)
    yield from zip(rows, own, strict=True)


def rivals(target: dict[str, Tensor], source: dict[str, Tensor] | None) -> dict[str, float]:
    """Accuracy and its label-free rivals, by the keys of `LabelFreeRivals`.

    Args:
        target: "correct", "confidence" and "negative_entropy" (N,) of the test images.
        source: the same of labelled images held out of the training, for thresholded confidence.
    """
    point = {
        ACCURACY: float(target["correct"].double().mean()),
        "rivals/confidence": float(target["confidence"].double().mean()),
        "rivals/negative_entropy": float(target["negative_entropy"].double().mean()),
    }
    if source is not None:
        for name, score in (("confidence", "confidence"), ("entropy", "negative_entropy")):
            point[f"rivals/atc_{name}"] = average_thresholded_confidence(
                source[score], source["correct"], target[score]
            )
    return point
