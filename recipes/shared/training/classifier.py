"""The classifiers that the recipes train and watch: of images, other tensors, and texts."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from recipes.shared.training.networks import build
from recipes.shared.training.text_networks import TextCNN


class Classifier(pl.LightningModule):
    """A network trained by cross-entropy with AdamW and a one-cycle learning rate.

    Logs `loss/train` at every logged step and `accuracy/train`, `loss/val`, `accuracy/val` once an
    epoch; losses are in nats, accuracies between 0 and 1.

    Args:
        network: gives logits (N, classes).
        learning_rate: the highest learning rate of the cycle.
        weight_decay: of AdamW.
    """

    def __init__(self, network: nn.Module, learning_rate: float, weight_decay: float) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.network = network

    def logits_and_labels(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Logits (N, classes) of a batch, and its labels (N,)."""
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Cross-entropy of one batch: a scalar."""
        loss, accuracy, size = self._loss_accuracy_size(batch)
        self.log("loss/train", loss, on_step=True, on_epoch=False, batch_size=size)
        self.log("accuracy/train", accuracy, on_step=False, on_epoch=True, batch_size=size)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Logs the loss and accuracy of one batch."""
        loss, accuracy, size = self._loss_accuracy_size(batch)
        values = {"loss/val": loss, "accuracy/val": accuracy}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=size)

    def _loss_accuracy_size(self, batch: Any) -> tuple[Tensor, Tensor, int]:
        logits, labels = self.logits_and_labels(batch)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        return F.cross_entropy(logits, labels), accuracy, len(labels)

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


class ImageClassifier(Classifier):
    """A classifier of images.

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
        super().__init__(build(network, num_classes, image_size), learning_rate, weight_decay)
        self.save_hyperparameters()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of normalised images (N, 3, H, W)."""
        logits: Tensor = self.network(images)
        return logits

    def logits_and_labels(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits of a batch of (images (N, 3, H, W), labels (N,)), and the labels."""
        images, labels = batch
        return self(images), labels


class TensorClassifier(Classifier):
    """A classifier of tensors of any shape, such as series, by a network that is given.

    Args:
        network: gives logits (N, classes) of a batch of tensors (N, ...).
        learning_rate: the highest learning rate of the cycle.
        weight_decay: of AdamW.
    """

    def __init__(
        self, network: nn.Module, learning_rate: float = 2e-3, weight_decay: float = 0.01
    ) -> None:
        super().__init__(network, learning_rate, weight_decay)

    def forward(self, tensors: Tensor) -> Tensor:
        """Logits (N, classes) of tensors (N, ...)."""
        logits: Tensor = self.network(tensors)
        return logits

    def logits_and_labels(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits of a batch of (tensors (N, ...), labels (N,)), and the labels."""
        tensors, labels = batch
        return self(tensors), labels


class TextClassifier(Classifier):
    """A classifier of texts.

    Args:
        num_words: size of the vocabulary.
        num_classes: number of logits.
        learning_rate: the highest learning rate of the cycle.
        weight_decay: of AdamW.
    """

    def __init__(
        self,
        num_words: int,
        num_classes: int,
        learning_rate: float = 4e-3,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(TextCNN(num_words, num_classes), learning_rate, weight_decay)
        self.network: TextCNN
        self.save_hyperparameters()

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits (N, num_classes) of numbers of words (N, T)."""
        logits: Tensor = self.network(input_ids)
        return logits

    def logits_and_labels(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits of a batch of `input_ids`, and its `labels`."""
        return self(batch["input_ids"]), batch["labels"]
