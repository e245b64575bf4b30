"""Pictures and pages of text to each logger by its own call, or pictures to files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Page:
    """A page of text, for loggers that show such.

    Attributes:
        html: with colours.
        markdown: for those that let no colours through.
    """

    html: str
    markdown: str


Shown = Mapping[str, "Picture | Page"]
Way = Callable[[str, Any, int], None]


def hand_over(trainer: Trainer, shown: Shown, step: int, folder: str | None) -> dict[str, str]:
    """Give pictures to all loggers of a trainer; to files for loggers that take none, or without.

    A picture that a logger refuses costs that picture, and nothing else. Pages of text go to the
    loggers that show them, and nowhere else: there is a picture of what they say.

    Args:
        trainer: the Lightning trainer.
        shown: by tag, (H, W, 3) pictures and pages of text.
        step: x of the pictures.
        folder: where files go, in a folder `aopc_figures` of their own; None for nowhere.

    Returns:
        The first thing that went wrong with each logger, by its class and place.
    """
    problems: dict[str, str] = {}
    for name, (to_pictures, to_pages) in _takers(trainer, folder).items():
        for tag, entry in shown.items():
            take = to_pages if isinstance(entry, Page) else to_pictures
            if take is None:
                continue
            try:
                take(tag, entry, step)
            except Exception as error:  # a full disk, a server that is gone
                problems.setdefault(name, f"{tag}: {text_of(error)}")
    return problems


def _takers(trainer: Trainer, folder: str | None) -> dict[str, tuple[Way | None, Way | None]]:
    """How each logger, and the folder, takes pictures and pages, by what they are called."""
    loggers = trainer.loggers
    ways = [(_way_to(logger, WAYS), _way_to(logger, PAGE_WAYS)) for logger in loggers]
    takers = {_name_of(loggers, i): way for i, way in enumerate(ways)}
    if folder is not None and (not ways or any(pictures is None for pictures, _ in ways)):
        takers[FOLDER] = (partial(_to_file, folder), None)
    return takers


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


def _way_to(logger: Any, ways: Mapping[str, Callable[..., None]]) -> Way | None:
    for name, take in ways.items():
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


def _page_to_tensorboard(logger: Any, tag: str, page: Page, step: int) -> None:
    # Its tab "Text" takes all styles out of HTML.
    logger.experiment.add_text(tag_in(logger, tag), page.markdown, global_step=step)


def _page_to_wandb(logger: Any, tag: str, page: Page, step: int) -> None:
    import wandb

    # This call puts the prefix of the logger before the tag.
    logger.log_metrics({tag: wandb.Html(page.html)}, step=step)


def _to_nowhere(logger: Any, tag: str, shown: Picture | Page, step: int) -> None:
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
PAGE_WAYS: dict[str, Callable[[Any, str, Page, int], None]] = {
    "TensorBoardLogger": _page_to_tensorboard,
    "WandbLogger": _page_to_wandb,
    "DummyLogger": _to_nowhere,
}
