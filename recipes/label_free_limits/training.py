"""The first phase: a training leaves its weights at the steps that will be looked at."""

from __future__ import annotations

import argparse
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from recipes.label_free_limits.regimes import Regime, look_steps
from recipes.shared.data.labelled_images import ImageData
from recipes.shared.reporting.run_folder import RunFolder
from recipes.shared.training.classifier import ImageClassifier
from recipes.shared.training.fitting import (
    FIRST_STEP,
    EpochSeeds,
    loaders,
    new_classifier,
    new_trainer,
)

Weights = dict[str, Tensor]


class ConstantRate(ImageClassifier):
    """A classifier whose learning rate stays what it is."""

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW at a quarter of the highest rate of the cycle."""
        rate = self.learning_rate / 4
        return torch.optim.AdamW(self.parameters(), lr=rate, weight_decay=self.weight_decay)


class KeptWeights(pl.Callback):
    """Keeps the weights of a classifier's network at some steps, each in a file.

    Args:
        folder: of the files, see `weight_files`.
        steps: optimizer steps; the last step of a training is always kept.
    """

    def __init__(self, folder: Path, steps: Collection[int]) -> None:
        self.folder, self.steps = folder, steps

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before the first step."""
        self._keep_if_wanted(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object
    ) -> None:
        """After a step."""
        self._keep_if_wanted(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """At the end, also where the training ends before its last step."""
        self._keep(trainer, pl_module)

    def _keep_if_wanted(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step in self.steps:
            self._keep(trainer, pl_module)

    def _keep(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            unfinished = self.folder / "part"
            torch.save(pl_module.network.state_dict(), unfinished)
            unfinished.replace(self.folder / f"step_{trainer.global_step:07d}.pt")


def weight_files(run: Path) -> list[Path]:
    """The weights that a training left in its folder, in the order of the steps.

    Args:
        run: the folder of the training.
    """
    return sorted((run / "weights").glob("step_*.pt"))


def kept_steps(steps_per_epoch: int, epochs: int) -> set[int]:
    """The steps after which weights are kept: many early ones, then the end of each epoch.

    Example:
        >>> sorted(kept_steps(40, 3))
        [0, 20, 25, 32, 40, 50, 63, 80, 120]
    """
    last = steps_per_epoch * epochs
    early = [round(FIRST_STEP * 1.2599**k) for k in range(30)]
    early = [step for step in early if step < min(2 * steps_per_epoch, last)]
    return {0, *early, *range(steps_per_epoch, last + 1, steps_per_epoch)}


def chosen_files(run: Path, count: int, looks_late: bool) -> list[Path]:
    """The weights that are looked at: those nearest to `look_steps` of the steps that were made.

    Args:
        run: the folder of the training.
        count: how many, the start among them.
        looks_late: see `look_steps`.
    """
    files = {step_of(file): file for file in weight_files(run)}
    wanted = look_steps(max(files), count - 1, looks_late)
    chosen = {0, *(min(files, key=lambda step: abs(step - one)) for one in wanted)}
    return [files[step] for step in sorted(chosen)]


def step_of(file: Path) -> int:
    """The step of a file of weights.

    Example:
        >>> step_of(Path("weights/step_0000120.pt"))
        120
    """
    return int(file.stem.removeprefix("step_"))


def train_and_keep(
    options: argparse.Namespace,
    data: ImageData,
    regime: Regime,
    seed: int,
    folder: RunFolder,
    start: Weights | None = None,
) -> None:
    """Train under a regime; goes on from the last epoch of an interrupted training.

    Args:
        options: of the recipe, with the network of this run.
        data: what is trained on.
        regime: how to train.
        seed: of the weights and the order of images.
        folder: where the weights are left, see `weight_files`.
        start: weights to start from in place of random ones.
    """
    pl.seed_everything(seed, verbose=False)
    train, _ = loaders(data)
    kept = KeptWeights(folder.path / "weights", ())
    trainer = new_trainer(
        options,
        regime.max_epochs or data.plan.max_epochs,
        callbacks=[EpochSeeds(seed), kept, *_endings(regime, folder)],
        enable_checkpointing=True,
    )
    kept.steps = kept_steps(math.ceil(len(train) / trainer.world_size), trainer.max_epochs or 1)
    model = _model(data, options.network, regime, start)
    trainer.fit(model, train, ckpt_path=folder.checkpoint if folder.is_begun else None)
    trainer.strategy.barrier()


def _model(data: ImageData, network: str, regime: Regime, start: Weights | None) -> ImageClassifier:
    model = new_classifier(data, network, ConstantRate if regime.constant_rate else ImageClassifier)
    if start is not None:
        model.network.load_state_dict(start)
    return model


def _endings(regime: Regime, folder: RunFolder) -> list[pl.Callback]:
    """What may end a training: the accuracy that is wanted, or an interruption."""
    checkpoint = ModelCheckpoint(
        folder.path, filename=folder.checkpoint.stem, enable_version_counter=False
    )
    if regime.stop_at is None:
        return [checkpoint]
    stopping = EarlyStopping(
        "accuracy/train", mode="max", patience=regime.max_epochs or 1,
        stopping_threshold=regime.stop_at, check_on_train_epoch_end=True,
    )  # fmt: skip
    return [stopping, checkpoint]
