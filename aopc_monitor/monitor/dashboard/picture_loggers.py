"""Pictures to each logger by its own call, or to files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aopc_monitor.figures import write_png
from aopc_monitor.monitor.errors import text_of

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

FOLDER = "aopc_figures"

Picture = NDArray[np.uint8]


def hand_over(
    trainer: Trainer, pictures: Mapping[str, Picture], step: int, folder: str | None
) -> dict[str, str]:
    """Give pictures to all loggers of a trainer; to files for loggers that take none, or without.

    A picture that a logger refuses costs that picture, and nothing else.

    Args:
        trainer: the Lightning trainer.
        pictures: (H, W, 3) by tag.
        step: x of the pictures.
        folder: where files go, in a folder `aopc_figures` of their own; None for nowhere.

    Returns:
        The first thing that went wrong with each logger, by its class and place.
    """
    loggers = trainer.loggers
    ways = [_way_to(logger) for logger in loggers]
    takers = {_name_of(loggers, i): way for i, way in enumerate(ways) if way is not None}
    if folder is not None and (not ways or None in ways):
        takers[FOLDER] = partial(_to_file, folder)
    problems: dict[str, str] = {}
    for name, take in takers.items():
        for tag, picture in pictures.items():
            try:
                take(tag, picture, step)
            except Exception as error:  # a full disk, a server that is gone
                problems.setdefault(name, f"{tag}: {text_of(error)}")
    return problems


def tag_in(logger: Any, tag: str) -> str:
    """What a logger makes of a tag of numbers: Lightning's loggers may have a prefix of their own.

    Example:
        >>> from types import SimpleNamespace
        >>> tag_in(SimpleNamespace(_prefix="run1", LOGGER_JOIN_CHAR="-"), "aopc/lrp")
        'run1-aopc/lrp'
    """
    # No public names of Lightning; a logger without them changes no tag.
    prefix = getattr(logger, "_prefix", None)
    return f"{prefix}{getattr(logger, 'LOGGER_JOIN_CHAR', '-')}{tag}" if prefix else tag


def is_a(logger: Any, name: str) -> bool:
    """Whether a logger is of a class of that name, of `lightning` or of `pytorch_lightning`."""
    return any(kind.__name__ == name for kind in type(logger).__mro__)


def _name_of(loggers: Sequence[Any], place: int) -> str:
    name = type(loggers[place]).__name__
    return name if len(loggers) == 1 else f"{name} (trainer.loggers[{place}])"


def _way_to(logger: Any) -> Callable[[str, Picture, int], None] | None:
    for name, take in WAYS.items():
        if is_a(logger, name):
            return partial(take, logger)
    return None


def _to_tensorboard(logger: Any, tag: str, picture: Picture, step: int) -> None:
    name = tag_in(logger, tag)
    logger.experiment.add_image(name, picture, global_step=step, dataformats="HWC")


def _to_wandb(logger: Any, tag: str, picture: Picture, step: int) -> None:
    # This call puts the prefix of the logger before the tag.
    logger.log_image(tag, [picture], step=step)


def _to_mlflow(logger: Any, tag: str, picture: Picture, step: int) -> None:
    # MLflow refuses other characters.
    key = re.sub(r"[^\w\-./ ]", "_", tag_in(logger, tag), flags=re.ASCII)
    logger.experiment.log_image(logger.run_id, picture, key=key, step=step)


def _to_nowhere(logger: Any, tag: str, picture: Picture, step: int) -> None:
    """Lightning's stand-in for a logger in a dry run."""


def _to_file(folder: str, tag: str, picture: Picture, step: int) -> None:
    if "://" in folder:
        raise ValueError(
            f"the folder {folder!r} is not on this machine: give the trainer a first logger that "
            "writes here, or only loggers that take pictures"
        )
    # Steps have one length, so that files stand in the order of the training.
    name = re.sub(r"[^\w.-]+", "_", tag)
    write_png(picture, Path(folder) / FOLDER / f"{name}-{step:08d}.png")


WAYS: dict[str, Callable[[Any, str, Picture, int], None]] = {
    "TensorBoardLogger": _to_tensorboard,
    "WandbLogger": _to_wandb,
    "MLFlowLogger": _to_mlflow,
    "DummyLogger": _to_nowhere,
}
