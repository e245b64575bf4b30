"""Which images a recipe works on, from the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from recipes.datasets import ImageData, load


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--dataset` and `--image-folder`, one of which can be given."""
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--dataset", choices=("digits", "cifar10"), default="digits")
    data.add_argument("--image-folder", type=Path, help="tree with train/CLASS/* and test/CLASS/*")


def chosen_data(options: argparse.Namespace) -> ImageData:
    """The images that the arguments name."""
    if options.image_folder:
        return load("image_folder", options.image_folder)
    return load(options.dataset, seed=options.seed)
