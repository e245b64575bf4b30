"""The small image classifier that the recipes train and watch."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn


class SmallCNN(nn.Module):
    """Four convolutions with ReLU, three max pools, one linear layer.

    There is no BatchNorm on purpose: early in training it makes a network collapse under any noise,
    so that AOPC would measure the noise and not the evidence.

    Args:
        in_channels: channels of the images.
        num_classes: number of logits.
        width: channels of the first convolution; doubled after the first and the second pool.
        image_size: height and width of the images in pixels, at least 8.

    Raises:
        ValueError: if the images are too small for three halvings.
    """

    def __init__(
        self, in_channels: int = 3, num_classes: int = 10, width: int = 32, image_size: int = 32
    ) -> None:
        super().__init__()
        if image_size < 8:
            raise ValueError(
                f"image_size must be at least 8, because three pools halve it; got {image_size}"
            )
        self.features = nn.Sequential(
            *_convolution(in_channels, width),
            nn.MaxPool2d(2),
            *_convolution(width, 2 * width),
            *_convolution(2 * width, 2 * width),
            nn.MaxPool2d(2),
            *_convolution(2 * width, 4 * width),
            nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(4 * width * (image_size // 8) ** 2, num_classes),
        )
        # Weights in this layout carry the activations along, whatever the layout of the images:
        # on a CPU, pooling is several times faster in it.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, in_channels, image_size, image_size)."""
        logits: Tensor = self.head(self.features(images))
        return logits


def _convolution(in_channels: int, out_channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.ReLU()


class ImageClassifier(pl.LightningModule):
    """`SmallCNN` trained by cross-entropy with AdamW and a one-cycle learning rate.

    Logs `loss/train` at every logged step and `accuracy/train`, `loss/val`, `accuracy/val` once an
    epoch; losses are in nats, accuracies between 0 and 1.

    Args:
        num_classes: number of logits.
        learning_rate: the highest learning rate of the cycle.
        width: channels of the first convolution.
        image_size: height and width of the images in pixels.
    """

    def __init__(
        self,
        num_classes: int = 10,
        learning_rate: float = 2e-3,
        width: int = 32,
        image_size: int = 32,
    ) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.network = SmallCNN(3, num_classes, width, image_size)
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
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
