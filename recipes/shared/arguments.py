"""Arguments that recipes share: which images, which network, how to train it."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from recipes.shared.data.datasets import load
from recipes.shared.data.labelled_images import ImageData
from recipes.shared.data.labelled_tensors import TensorData
from recipes.shared.data.labelled_texts import TextData
from recipes.shared.training.networks import SMALL, check_name
from recipes.shared.training.pretrained import categories_of


def add_data_arguments(parser: argparse.ArgumentParser, is_trained: bool = True) -> None:
    """Add `--dataset` and `--image-folder`, one of which can be given, and `--image-size`.

    Args:
        parser: the parser.
        is_trained: whether a network is always trained on the images.
    """
    data = parser.add_mutually_exclusive_group()
    choices = ("digits", "cifar10") if is_trained else ("digits", "cifar10", "photographs")
    data.add_argument("--dataset", choices=choices, default="digits")
    data.add_argument("--image-folder", type=Path, help="tree with train/CLASS/* and test/CLASS/*")
    parser.add_argument(
        "--image-size", type=int, default=32, help="pixels; images of a folder are brought to it"
    )


def chosen_data(options: argparse.Namespace) -> ImageData:
    """The images that the arguments name.

    Raises:
        SystemExit: with one sentence, for a folder or a file that cannot be read, and where the
            extra of the photographs is not installed.
    """
    try:
        if not options.image_folder:
            return load(options.dataset, seed=options.seed, image_size=options.image_size)
        return load(
            "image_folder",
            options.image_folder,
            image_size=options.image_size,
            is_trained=not getattr(options, "pretrained", False),
        )
    except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from error


def add_network_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """Add which network is trained, or read from where."""
    parser.add_argument(
        "--network",
        default=default,
        metavar="NAME",
        help=f"{', '.join(SMALL)}, a classification model of torchvision, or module:function",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        help="state dict of the network: read if the file exists, else written after training",
    )
    parser.add_argument(
        "--pretrained",
        action="store_true",
        help="torchvision downloads its weights; those of efficientnet_lite0 to 2 are packages of "
        "the extra photographs; nothing is trained",
    )


def check_networks(
    parser: argparse.ArgumentParser, names: Sequence[str], flag: str, has_weights: bool
) -> None:
    """Refuse networks that cannot be made, before images are read and others trained.

    Args:
        parser: the parser.
        names: of the networks.
        flag: the argument that wants them.
        has_weights: whether they are to be trained already.
    """
    for name in names:
        try:
            check_name(name, has_weights)
            if has_weights:
                categories_of(name)
        except (ValueError, ModuleNotFoundError) as error:
            parser.error(f"{flag}: {error}")


def add_trainer_arguments(parser: argparse.ArgumentParser, has_seeds: bool = False) -> None:
    """Add how Lightning trains: epochs, devices, precision, seed.

    Args:
        parser: the parser.
        has_seeds: whether the recipe has `--seeds`, the seeds of several trainings, of its own.
    """
    trainer = parser.add_argument_group("trainer")
    trainer.add_argument("--max-epochs", type=int, help="chosen for the data set if not given")
    trainer.add_argument("--accelerator", default="auto")
    trainer.add_argument("--devices", default="auto")
    trainer.add_argument("--strategy", default="auto")
    trainer.add_argument("--precision", default="32-true")
    if not has_seeds:
        trainer.add_argument("--seed", type=int, default=0, help="of every random choice")


def add_seed_of_digits(parser: argparse.ArgumentParser) -> None:
    """Add `--seed` to a recipe that has `--seeds`; then call `check_seed_of_digits`."""
    text = "of the drawn digits only, 0 if not given; those of the trainings are --seeds"
    parser.add_argument("--seed", type=int, help=text)


def check_seed_of_digits(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse a `--seed` that would change nothing; 0 where it was not given."""
    if options.seed is not None and (options.image_folder or options.dataset != "digits"):
        parser.error(
            f"--seed {options.seed} is the seed of the drawn digits, and these images are not "
            "drawn: leave it out; the seeds of the trainings are --seeds"
        )
    options.seed = options.seed or 0


def data_folder(parent: Path, data: ImageData | TensorData | TextData) -> Path:
    """The folder of what is found on these images, series or texts.

    Example:
        >>> from types import SimpleNamespace
        >>> data_folder(Path("runs"), SimpleNamespace(name="CIFAR-10 (JPEG copy)")).as_posix()
        'runs/cifar-10-jpeg-copy'
    """
    return parent / re.sub(r"[^a-z0-9]+", "-", data.name.lower()).strip("-")


def command_line(module: str, arguments: Sequence[str] | None = None) -> str:
    """The command that made a report, to be made again.

    Example:
        >>> command_line("recipes.heatmap_gallery", ["--image-folder", "my images"])
        "python -m recipes.heatmap_gallery --image-folder 'my images'"
    """
    given = sys.argv[1:] if arguments is None else arguments
    return shlex.join(["python", "-m", module, *given])
