"""The image classifier that the recipes train and watch."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from recipes.shared.training.networks import build


class ImageClassifier(pl.LightningModule):
    """A network trained by cross-entropy with AdamW and a one-cycle learning rate.

    Logs `loss/train` at every logged step and `accuracy/train`, `loss/val`, `accuracy/val` once an
    epoch; losses are in nats, accuracies between 0 and 1.

    Args:
        num_classes: number of logits.
        learning_rate: the highest learning rate of the cycle.
        network: name of the network, see `recipes.shared.training.networks.build`.
        image_size: height and width of the images in pixels.
        weight_decay: of AdamW.

    Raises:
        ValueError: if there is no network of that name.
    """

    def __init__(
        self,
        num_classes: int = 10,
        learning_rate: float = 2e-3,
        network: str = "small_cnn",
        image_size: int = 32,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.network = build(network, num_classes, image_size)
        self.save_hyperparameters()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of normalised images (N, 3, H, W)."""
        logits: Tensor = self.network(images)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy of one batch of (images (N, 3, H, W), labels (N,)): a scalar."""
        loss, accuracy = self._loss_and_accuracy(batch)
        size = len(batch[1])
        self.log("loss/train", loss, on_step=True, on_epoch=False, batch_size=size)
        self.log("accuracy/train", accuracy, on_step=False, on_epoch=True, batch_size=size)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Logs the loss and accuracy of one batch of (images (N, 3, H, W), labels (N,))."""
        loss, accuracy = self._loss_and_accuracy(batch)
        values = {"loss/val": loss, "accuracy/val": accuracy}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(batch[1]))

    def _loss_and_accuracy(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        images, labels = batch
        logits = self(images)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        return F.cross_entropy(logits, labels), accuracy

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, its learning rate rising and falling once over the planned number of steps."""
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
