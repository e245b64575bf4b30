"""A network to study: trained on the spot, read from a file, or as torchvision gives it."""

from __future__ import annotations

import argparse
import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

from recipes.shared.data.labelled_images import ImageData
from recipes.shared.data.labelled_tensors import TensorData
from recipes.shared.data.labelled_texts import TextData
from recipes.shared.kept_files import save_whole
from recipes.shared.training.classifier import Classifier, ImageClassifier
from recipes.shared.training.pretrained import pretrained

TEST_BATCH_SIZE = 250
# The step of the first look after the start: before it, even a fast learner is at chance.
FIRST_STEP = 20


class EpochSeeds(pl.Callback):
    """Makes the random numbers of each epoch depend on a seed and the epoch only.

    So a resumed training has the order of images, augmentation and dropout that it would have had
    without the interruption. The training loader must be one of `loaders`.

    Args:
        seed: of the training.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the random numbers of the epoch."""
        torch.manual_seed(random.Random(f"{self.seed} {trainer.current_epoch}").getrandbits(63))


def new_classifier(
    data: ImageData, network: str, kind: type[ImageClassifier] = ImageClassifier, **settings: Any
) -> ImageClassifier:
    """An untrained classifier of a kind that fits the images."""
    settings = {"learning_rate": data.plan.learning_rate, **settings}
    return kind(len(data.classes), network=network, image_size=data.image_size, **settings)


def loaders(data: ImageData | TensorData | TextData) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Shuffled training batches, and test batches."""
    size = data.plan.batch_size
    return (
        DataLoader(
            data.train,
            batch_size=size,
            sampler=RandomSampler(data.train),
            drop_last=True,
            # A new iterator draws a number, sometimes before and sometimes after `EpochSeeds`.
            generator=torch.Generator(),
        ),
        DataLoader(data.test, batch_size=TEST_BATCH_SIZE),
    )


def new_trainer(options: argparse.Namespace, max_epochs: int, **settings: Any) -> pl.Trainer:
    """A trainer of the arguments that `add_trainer_arguments` added."""
    # The images are in memory, so workers would only copy them.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    defaults = {"logger": False, "enable_checkpointing": False, "num_sanity_val_steps": 0}
    return pl.Trainer(
        max_epochs=options.max_epochs or max_epochs,
        accelerator=options.accelerator,
        devices=options.devices,
        strategy=options.strategy,
        precision=options.precision,
        enable_model_summary=False,
        **{**defaults, **settings},
    )


def trained_network(
    data: ImageData, options: argparse.Namespace, callbacks: Sequence[pl.Callback] = ()
) -> nn.Module:
    """The network that the arguments name, in eval mode.

    Args:
        data: the images.
        options: what `add_network_arguments` and `add_trainer_arguments` added.
        callbacks: of the training, if there is one.

    Raises:
        ValueError: if the network does not fit the images or the weights do not fit the network.
    """
    if options.pretrained:
        return pretrained(options.network, len(data.classes), data.mean, data.std).eval()
    model = new_classifier(data, options.network)
    return fitted(model, data, options, options.weights, options.network, callbacks)


def fitted(
    model: Classifier,
    data: ImageData | TensorData,
    options: argparse.Namespace,
    weights: Path | None,
    name: str,
    callbacks: Sequence[pl.Callback] = (),
) -> nn.Module:
    """The network of a classifier, its weights read if the file exists, else trained; eval mode.

    Args:
        model: the classifier.
        data: what it is trained on.
        options: what `add_trainer_arguments` added.
        weights: the file, written after a training.
        name: of the network, in messages.
        callbacks: of the training, if there is one.

    Raises:
        ValueError: if the weights do not fit the network.
    """
    if weights is not None and weights.exists():
        try:
            model.network.load_state_dict(torch.load(weights, weights_only=True))
        except RuntimeError as error:
            raise ValueError(f"weights {str(weights)!r} do not fit {name}: {error}") from error
        rank_zero_only(print)(f"weights  {weights}: read, nothing is trained")
        return model.network.eval()
    train, test = loaders(data)
    trainer = new_trainer(options, data.plan.max_epochs, callbacks=list(callbacks))
    trainer.fit(model, train, test)
    if trainer.is_global_zero:
        print({key: round(float(value), 3) for key, value in trainer.callback_metrics.items()})
        if weights is not None:
            weights.parent.mkdir(parents=True, exist_ok=True)
            save_whole(model.network.state_dict(), weights)
    return model.network.cpu().eval()
