"""A network of independent labels, its training, and how often all labels of an image are right."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from aopc_monitor.network import untouched
from recipes.shared.training.beside import ACCURACY, LabelFreeRivals, own_batches

LABEL_ACCURACY = "label_accuracy/test"
CONFIDENCE = "rivals/confidence"


def labels_network(num_labels: int, width: int) -> nn.Sequential:
    """Five convolutions, and of each channel the maximum over places: (N, num_labels).

    A label is there wherever its digit is, so that one place with the evidence is enough.

    Args:
        num_labels: number of logits.
        width: channels of the first convolution; four times as many of the last.

    Example:
        >>> labels_network(10, width=4)(torch.zeros(2, 3, 48, 48)).shape
        torch.Size([2, 10])
    """
    return nn.Sequential(
        *_convolution(3, width),
        nn.MaxPool2d(2),
        *_convolution(width, 2 * width),
        *_convolution(2 * width, 2 * width),
        nn.MaxPool2d(2),
        *_convolution(2 * width, 4 * width),
        *_convolution(4 * width, 4 * width),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, num_labels),
    )


def _convolution(before: int, after: int) -> list[nn.Module]:
    # Without normalisation so few steps would not do.
    return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]


class LabelsClassifier(pl.LightningModule):
    """A network of several sigmoids, trained by binary cross-entropy with AdamW.

    Logs `loss/train` and, once an epoch, `loss/val`, in nats per label.

    Args:
        num_labels: number of logits.
        learning_rate: the highest learning rate of the cycle.
        width: channels of the first convolution; see `labels_network`.
    """

    def __init__(self, num_labels: int, learning_rate: float, width: int) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.network = labels_network(num_labels, width)
        self.save_hyperparameters()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_labels) of normalised images (N, 3, H, W)."""
        logits: Tensor = self.network(images)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Binary cross-entropy of one batch of (images, labels (N, num_labels)): a scalar."""
        loss = F.binary_cross_entropy_with_logits(self(batch[0]), batch[1])
        self.log("loss/train", loss, batch_size=len(batch[1]))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Logs the loss of one batch."""
        loss = F.binary_cross_entropy_with_logits(self(batch[0]), batch[1])
        self.log("loss/val", loss, batch_size=len(batch[1]))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, its learning rate rising and falling once over the planned number of steps."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, steps, pct_start=0.15
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class ExactMatch(LabelFreeRivals):
    """Beside each look of a monitor, how right and how confident the network is on all test images.

    - `accuracy/test`: share of the images whose labels are all right;
    - `label_accuracy/test`: share of the labels that are right;
    - `rivals/confidence`: mean probability of what is predicted, of the likeliest label where
      nothing is, over images.
    """

    def point(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, float]:
        """All numbers of the network as it is now, the same on every process."""
        found = torch.zeros(3, len(self.loader.dataset), device=pl_module.device)  # type: ignore[arg-type]
        precision, strategy = trainer.precision_plugin, trainer.strategy
        with untouched(pl_module), torch.no_grad(), precision.forward_context():
            for rows, batch in own_batches(self.loader, trainer.global_rank, trainer.world_size):
                images, labels = strategy.batch_to_device(batch)
                logits = pl_module(precision.convert_input(images)).float()
                found[:, rows] = torch.stack(_of_images(logits.sigmoid(), labels))
        total: Any = strategy.reduce(found, reduce_op="sum")
        keys = (ACCURACY, LABEL_ACCURACY, CONFIDENCE)
        return dict(zip(keys, total.double().mean(dim=1).tolist(), strict=True))


def _of_images(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N,) whether all labels are right, the share that is, and the confidence."""
    predicted = probabilities > 0.5
    right = (predicted == labels.bool()).float()
    count = predicted.sum(dim=1)
    of_predicted = (probabilities * predicted).sum(dim=1) / count
    confidence = torch.where(count > 0, of_predicted, probabilities.amax(dim=1))
    return right.amin(dim=1), right.mean(dim=1), confidence
