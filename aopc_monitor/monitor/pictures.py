"""Pictures to each logger by its own call, or to files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopc_monitor.figures import write_png
from aopc_monitor.monitor.processes import text_of

FOLDER = "aopc_figures"

Picture = NDArray[np.uint8]


def hand_over(
    trainer: Any, pictures: Mapping[str, Picture], step: int, folder: str | None
) -> dict[str, str]:
    """Give pictures to all loggers of a trainer; to files for loggers that take none, or without.

    A logger that fails costs its pictures, and nothing else.

    Args:
        trainer: the Lightning trainer.
        pictures: (H, W, 3) by tag.
        step: x of the pictures.
        folder: where files go, in a folder `aopc_figures` of their own; None for nowhere.

    Returns:
        What went wrong, by the kind of logger.
    """
    ways = [_way_to(logger) for logger in trainer.loggers]
    takers = [way for way in ways if way is not None]
    if folder is not None and (not ways or None in ways):
        takers.append((FOLDER, partial(_to_file, folder)))
    problems = {}
    for name, take in takers:
        try:
            for tag, picture in pictures.items():
                take(tag, picture, step)
        except Exception as error:  # a full disk, a server that is gone
            problems[name] = text_of(error)
    return problems


def is_a(logger: Any, name: str) -> bool:
    """Whether a logger is of a class of that name, of `lightning` or of `pytorch_lightning`."""
    return any(kind.__name__ == name for kind in type(logger).__mro__)


def _way_to(logger: Any) -> tuple[str, Callable[[str, Picture, int], None]] | None:
    for name, take in WAYS.items():
        if is_a(logger, name):
            return name, partial(take, logger)
    return None


def _to_tensorboard(logger: Any, tag: str, picture: Picture, step: int) -> None:
    logger.experiment.add_image(tag, picture, global_step=step, dataformats="HWC")


def _to_wandb(logger: Any, tag: str, picture: Picture, step: int) -> None:
    logger.log_image(tag, [picture], step=step)


def _to_mlflow(logger: Any, tag: str, picture: Picture, step: int) -> None:
    # MLflow refuses other characters.
    key = re.sub(r"[^\w\-./ ]", "_", tag, flags=re.ASCII)
    logger.experiment.log_image(logger.run_id, picture, key=key, step=step)


def _to_nowhere(logger: Any, tag: str, picture: Picture, step: int) -> None:
    """Lightning's stand-in for a logger in a dry run."""


def _to_file(folder: str, tag: str, picture: Picture, step: int) -> None:
    # Of one length, so that files stand in the order of the training.
    name = re.sub(r"[^\w.-]+", "_", tag)
    write_png(picture, Path(folder) / FOLDER / f"{name}-{step:08d}.png")


WAYS: dict[str, Callable[[Any, str, Picture, int], None]] = {
    "TensorBoardLogger": _to_tensorboard,
    "WandbLogger": _to_wandb,
    "MLFlowLogger": _to_mlflow,
    "DummyLogger": _to_nowhere,
}
