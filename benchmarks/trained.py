"""A network that was trained on real images, at several times of its training."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from recipes.shared.data.labelled_images import ImageData
from recipes.shared.heatmap_study import predicted_classes
from recipes.shared.training.fitting import (
    TEST_BATCH_SIZE,
    EpochSeeds,
    loaders,
    new_classifier,
    new_trainer,
)


class KeepEveryEpoch(pl.Callback):
    """Writes the network's state dict after each epoch.

    Args:
        folder: where to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write one."""
        file = weights_file(self.folder, trainer.current_epoch + 1)
        torch.save(pl_module.network.state_dict(), file)  # type: ignore[union-attr]


def weights_file(folder: Path, epochs: int) -> Path:
    """The weights after so many epochs."""
    return folder / f"after_{epochs}_epochs.pt"


def trained(
    data: ImageData, options: argparse.Namespace, epochs: int, folder: Path
) -> list[nn.Module]:
    """The network after each epoch, in eval mode; trained if the folder has not got it.

    Args:
        data: the images.
        options: `network`, and what `add_trainer_arguments` added.
        epochs: how many.
        folder: where the weights are kept, in a folder of their own for each training.
    """
    folder = folder / f"{options.network}_{epochs}_epochs_seed_{options.seed}"
    files = [weights_file(folder, epoch) for epoch in range(1, epochs + 1)]
    if not all(file.exists() for file in files):
        folder.mkdir(parents=True, exist_ok=True)
        pl.seed_everything(options.seed, verbose=False)
        train, _ = loaders(data)
        callbacks = [EpochSeeds(options.seed), KeepEveryEpoch(folder)]
        trainer = new_trainer(options, epochs, callbacks=callbacks)
        trainer.fit(new_classifier(data, options.network), train)
    networks = []
    for file in files:
        network = new_classifier(data, options.network).network
        network.load_state_dict(torch.load(file, weights_only=True))
        networks.append(network.eval())
    return networks


def accuracy_of(network: nn.Module, data: ImageData) -> float:
    """Share of the test images that are predicted rightly."""
    batches = DataLoader(data.test, batch_size=TEST_BATCH_SIZE)
    right = [(predicted_classes(network, images) == labels).float() for images, labels in batches]
    return float(torch.cat(right).mean())
