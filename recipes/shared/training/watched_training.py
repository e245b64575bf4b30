"""A training that a monitor watches at log-spaced steps, and that goes on where it was cut."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from aopc_monitor import AOPCMonitor
from aopc_monitor.monitor import log_spaced_steps
from recipes.shared.reporting.run_folder import RunFolder
from recipes.shared.training.beside import LabelFreeRivals
from recipes.shared.training.fitting import FIRST_STEP, EpochSeeds, new_trainer

LOOKS_PER_FIGURE = 3
# Arguments that two trainings need not share to be the same one. The number of devices is none of
# them: it decides which images are in a batch.
_ELSEWHERE = ("output", "networks", "seeds", "accelerator", "strategy")

Points = list[dict[str, float]]


def finished_trainings(
    options: argparse.Namespace, parent: Path, train: Callable[[RunFolder, str, int], Points]
) -> Iterator[tuple[str, int, Points]]:
    """Each network with each seed: read if it was trained before, else trained.

    Args:
        options: of the command line, with `networks` and `seeds`.
        parent: the folder of all trainings.
        train: trains a network with a seed, keeps its points in the folder, and returns them.

    Yields:
        Name of the network, seed, and the points of the training.

    Raises:
        ValueError: if a folder holds a training of other settings.
    """
    settings = {k: str(v) for k, v in vars(options).items() if k not in _ELSEWHERE}
    for network in options.networks:
        for seed in options.seeds:
            folder = RunFolder(parent / network.replace(":", ".") / f"seed_{seed}", settings)
            points = folder.read_points()
            if points is None:
                folder.begin()
                points = train(folder, network, seed)
            yield network, seed, points


def watched_training(
    options: argparse.Namespace,
    folder: RunFolder,
    model: pl.LightningModule,
    loaders: tuple[DataLoader[Any], DataLoader[Any]],
    rivals: LabelFreeRivals,
    seed: int,
    max_epochs: int,
    epochs_per_checkpoint: int = 1,
    figures_at: slice = slice(None, None, LOOKS_PER_FIGURE),
) -> Points:
    """Train, with an evaluation before the first step and at log-spaced ones.

    Args:
        options: what `add_trainer_arguments` added, and `evaluations`, how many.
        folder: where checkpoint and curves go, and from whose checkpoint the training goes on.
        model: what is trained.
        loaders: of training and test.
        rivals: what is measured beside the monitor that they keep pace with.
        seed: of the batches.
        max_epochs: unless the options say otherwise.
        epochs_per_checkpoint: epochs between two checkpoints, and two validations.
        figures_at: which of the looks after the first make figures, as the last one always does.

    Returns:
        One point for each look of the monitor, with the keys that all of them have.
    """
    monitor, (train, test) = rivals.monitor, loaders
    trainer = new_trainer(
        options,
        max_epochs,
        logger=TensorBoardLogger(folder.path.parent, name="", version=folder.path.name),
        callbacks=[EpochSeeds(seed), monitor, rivals, _checkpoint(folder, epochs_per_checkpoint)],
        enable_checkpointing=True,
        check_val_every_n_epoch=epochs_per_checkpoint,
        log_every_n_steps=20,
    )
    steps = math.ceil(len(train) / trainer.world_size) * (trainer.max_epochs or 1)
    _schedule(monitor, steps, options.evaluations, figures_at)
    trainer.fit(model, train, test, ckpt_path=folder.checkpoint if folder.is_begun else None)
    points = [
        {**point, **beside} for point, beside in zip(monitor.history, rivals.points, strict=True)
    ]
    # Looks with figures find more than the others.
    keys = [key for key in points[-1] if all(key in point for point in points)]
    return [{key: point[key] for key in keys} for point in points]


def _schedule(monitor: AOPCMonitor, steps: int, evaluations: int, figures_at: slice) -> None:
    # The first evaluation is made before the first step.
    schedule = log_spaced_steps(steps, evaluations - 1, min(FIRST_STEP, steps // 2))
    monitor.every_n_steps = schedule
    # The end of a training is shown in any case. A look without figures just before would be made
    # a second time for them.
    monitor.figures_every_n_steps = sorted({*schedule[figures_at], schedule[-1]})


def _checkpoint(folder: RunFolder, every_n_epochs: int) -> ModelCheckpoint:
    """The last one, under one name."""
    return ModelCheckpoint(
        folder.path,
        filename=folder.checkpoint.stem,
        every_n_epochs=every_n_epochs,
        enable_version_counter=False,
    )
