"""Independent labels: AOPC of each predicted label while a network learns to name all of them.

python -m recipes.many_labels      # digits, nothing is downloaded

Started again, it reads the training that is finished, or goes on with the one that was interrupted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.data import DataLoader, RandomSampler

from aopc_monitor import AOPCMonitor, heatmaps, normalized_data_range
from recipes.many_labels.report import Found
from recipes.many_labels.training import ExactMatch, LabelsClassifier
from recipes.shared.arguments import add_trainer_arguments, command_line
from recipes.shared.data.many_digits import DIGITS, ManyDigits, many_digits
from recipes.shared.freed_memory import keep_all_freed_memory
from recipes.shared.reporting.run_folder import RunFolder
from recipes.shared.training.fitting import TEST_BATCH_SIZE
from recipes.shared.training.watched_training import watched_training
from recipes.training_progress.report import Run

MAX_EPOCHS, BATCH_SIZE, LEARNING_RATE = 12, 64, 4e-3


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line to settings."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.many_labels",
        description="Train a network of independent labels and watch AOPC of what it predicts.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--width", type=int, default=16, help="of the first convolution")
    parser.add_argument("--train-images", type=int, default=6_000)
    parser.add_argument("--test-images", type=int, default=1_000)
    monitor = parser.add_argument_group("monitor")
    monitor.add_argument(
        "--heatmaps",
        nargs="+",
        default=["lrp", "sensitivity_l2"],
        metavar="NAME",
        help=f"of {', '.join(heatmaps.names()[:-1])}",
    )
    monitor.add_argument("--evaluations", type=int, default=12, help="log-spaced over training")
    monitor.add_argument("--num-images", type=int, default=128, help="size of the probe")
    monitor.add_argument("--region-size", type=int, default=4, help="pixels")
    monitor.add_argument("--steps", type=int, default=40, help="perturbed regions")
    monitor.add_argument("--sampled-steps", type=int, default=5, help="of each image")
    add_trainer_arguments(parser)
    parser.add_argument("--output", type=Path, default=Path("runs"))
    options = parser.parse_args(arguments)
    if options.evaluations < 3:
        parser.error(f"--evaluations {options.evaluations}: a correlation needs at least 3")
    return options


def main(arguments: Sequence[str] | None = None) -> Found:
    """Train, watch, report."""
    options = parse_arguments(arguments)
    settings = {k: str(v) for k, v in vars(options).items() if k != "output"}
    output = options.output / "many_labels"
    folder = RunFolder(output / f"width_{options.width}" / f"seed_{options.seed}", settings)
    points = folder.read_points()
    if points is None:
        folder.begin()
        points = _train(options, folder)
        rank_zero_only(folder.write_points)(points)
    found = Found(
        options.heatmaps, Run(f"a network of width {options.width}", options.seed, points)
    )
    _write(found, output)
    return found


def _train(options: argparse.Namespace, folder: RunFolder) -> list[dict[str, float]]:
    """One point for each look of the monitor."""
    pl.seed_everything(options.seed, verbose=False)
    data = many_digits(options.seed, options.train_images, options.test_images)
    train, test = _loaders(data)
    monitor = _monitor(options, data)
    beside = ExactMatch(monitor, test)
    model = LabelsClassifier(DIGITS, LEARNING_RATE, options.width)
    return watched_training(
        options,
        folder,
        model,
        (train, test),
        beside,
        options.seed,
        MAX_EPOCHS,
        figures_at=slice(-1, None),
    )


def _loaders(data: ManyDigits) -> tuple[DataLoader[Any], DataLoader[Any]]:
    train = DataLoader(
        data.train,
        batch_size=BATCH_SIZE,
        sampler=RandomSampler(data.train),
        drop_last=True,
        # A new iterator draws a number, sometimes before and sometimes after `EpochSeeds`.
        generator=torch.Generator(),
    )
    return train, DataLoader(data.test, batch_size=TEST_BATCH_SIZE)


def _monitor(options: argparse.Namespace, data: ManyDigits) -> AOPCMonitor:
    return AOPCMonitor(
        options.heatmaps,
        score="sigmoid",
        target="predicted",
        at_validation=False,
        num_images=options.num_images,
        region_size=options.region_size,
        steps=options.steps,
        sampled_steps=options.sampled_steps,
        data_range=normalized_data_range(data.mean, data.std),
        seed=options.seed,
        on_error="raise",
        figures=True,
    )


@rank_zero_only
def _write(found: Found, folder: Path) -> None:
    found.write(folder, command_line("recipes.many_labels"))
    print(f"\n{found.text()}\n")
    for name in ("figure.png", "points.csv", "report.md"):
        print(f"{name.partition('.')[0]:<8} {folder / name}")


if __name__ == "__main__":
    keep_all_freed_memory()
    main()
