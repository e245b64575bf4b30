"""Fig. 7 of Samek et al. 2017: AOPC follows accuracy while networks train.

python -m recipes.training_progress                       # digits, nothing is downloaded
python -m recipes.training_progress --dataset cifar10     # downloads CIFAR-10
python -m recipes.training_progress --image-folder DIR    # a train/ + test/ tree of images
python -m recipes.training_progress --image-folder DIR --image-size 64 \
    --network efficientnet_lite0 --fine-tune              # weights of ImageNet, trained further

With `--networks small_cnn small_resnet --seeds 0 1 2` it trains each network with each seed.
Started again, it reads the trainings that are finished and goes on with the one that was
interrupted.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.data import DataLoader

from aopc_monitor import AOPCMonitor, heatmaps, normalized_data_range
from recipes.shared.arguments import (
    add_data_arguments,
    add_seed_of_digits,
    add_trainer_arguments,
    check_networks,
    check_seed_of_digits,
    chosen_data,
    command_line,
    data_folder,
)
from recipes.shared.data.labelled_images import ImageData, fewer_images, hold_out
from recipes.shared.freed_memory import keep_all_freed_memory
from recipes.shared.reporting.run_folder import RunFolder
from recipes.shared.training.beside import LabelFreeRivals
from recipes.shared.training.fine_tuning import FINE_TUNING_PLAN, fine_tuned_classifier
from recipes.shared.training.fitting import TEST_BATCH_SIZE, loaders, new_classifier
from recipes.shared.training.networks import SMALL
from recipes.shared.training.watched_training import finished_trainings, watched_training
from recipes.training_progress.figures import figure_of_run
from recipes.training_progress.report import Run, Study


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line to settings."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.training_progress",
        description="Train classifiers and watch AOPC follow their accuracy.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--networks",
        nargs="+",
        default=["small_cnn"],
        metavar="NAME",
        help=f"{', '.join(SMALL)}, classification models of torchvision, or module:function",
    )
    parser.add_argument(
        "--fine-tune",
        action="store_true",
        help="start from the weights of torchvision, which it downloads, or of efficientnet_lite0 "
        "to 2, which are packages of the extra photographs, with a new head for the classes",
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, help="of the trainings", default=[0], metavar="SEED"
    )
    parser.add_argument("--train-images", type=int, help="drawn at random; all if not given")
    parser.add_argument("--test-images", type=int, help="drawn at random; all if not given")
    monitor = parser.add_argument_group("monitor")
    monitor.add_argument(
        "--heatmaps",
        nargs="+",
        default=["lrp", "deconvolution_l2", "sensitivity_l2"],
        metavar="NAME",
        help=f"of {', '.join(heatmaps.names()[:-1])}",
    )
    monitor.add_argument("--evaluations", type=int, default=22, help="log-spaced over training")
    monitor.add_argument("--num-images", type=int, default=128, help="size of the probe")
    monitor.add_argument("--region-size", type=int, help="pixels; chosen to fit if not given")
    monitor.add_argument("--steps", type=int, help="perturbed regions; chosen if not given")
    monitor.add_argument("--sampled-steps", type=int, help="of each image; all if not given")
    monitor.add_argument(
        "--source-images",
        type=int,
        default=500,
        help="labelled images held out of the training, for average thresholded confidence",
    )
    add_trainer_arguments(parser, has_seeds=True)
    add_seed_of_digits(parser)
    parser.add_argument("--output", type=Path, default=Path("runs"))
    options = parser.parse_args(arguments)
    check_seed_of_digits(parser, options)
    if options.evaluations < 3:
        parser.error(f"--evaluations {options.evaluations}: a correlation needs at least 3")
    flag = "--fine-tune" if options.fine_tune else "--networks"
    check_networks(parser, options.networks, flag, options.fine_tune)
    return options


def main(arguments: Sequence[str] | None = None) -> Study:
    """Train, watch, report."""
    options = parse_arguments(arguments)
    data = fewer_images(chosen_data(options), options.train_images, options.test_images)
    folder, title = data_folder(options.output / "training_progress", data), data.name
    if options.fine_tune:
        data = replace(data, plan=FINE_TUNING_PLAN)
        folder, title = folder.with_name(f"{folder.name}-fine-tuned"), f"{title}, fine-tuned"
    trainings = finished_trainings(options, folder, partial(_train, options, data))
    study = Study(title, options.heatmaps, [Run(*training) for training in trainings])
    _write(study, folder, options)
    return study


def _train(
    options: argparse.Namespace, data: ImageData, folder: RunFolder, network: str, seed: int
) -> list[dict[str, float]]:
    """One point for each look of the monitor; figure and points are kept."""
    pl.seed_everything(seed, verbose=False)
    data, source = hold_out(data, options.source_images, seed)
    both = loaders(data)
    monitor = _monitor(options, data, seed)
    rivals = LabelFreeRivals(monitor, both[1], DataLoader(source, batch_size=TEST_BATCH_SIZE))
    new = fine_tuned_classifier if options.fine_tune else new_classifier
    model, epochs = new(data, network), data.plan.max_epochs
    points = watched_training(options, folder, model, both, rivals, seed, epochs)
    _keep(folder, Run(network, seed, points), data, options)
    return points


def _monitor(options: argparse.Namespace, data: ImageData, seed: int) -> AOPCMonitor:
    return AOPCMonitor(
        options.heatmaps,
        at_validation=False,
        num_images=options.num_images,
        region_size=options.region_size,
        steps=options.steps,
        sampled_steps=options.sampled_steps,
        data_range=normalized_data_range(data.mean, data.std),
        seed=seed,
        on_error="raise",
        figures=True,
        custom_scalars=True,
    )


@rank_zero_only
def _keep(folder: RunFolder, run: Run, data: ImageData, options: argparse.Namespace) -> None:
    figure_of_run(run, data.name, options.heatmaps).savefig(folder.path / "figure.png")
    # The points come last: with them, the run is finished.
    folder.write_points(run.points)


@rank_zero_only
def _write(study: Study, folder: Path, options: argparse.Namespace) -> None:
    study.write(folder, command_line("recipes.training_progress"))
    print(f"\n{study.text()}\n")
    print(f"figure   {folder / 'figure.png'}")
    print(f"points   {folder / 'points.csv'}")
    print(f"report   {folder / 'report.md'}")
    # Without an activated environment the command has to be called by its path.
    tensorboard = shutil.which("tensorboard") or Path(sys.executable).parent / "tensorboard"
    print(f"curves   {tensorboard} --logdir {options.output}")


if __name__ == "__main__":
    keep_all_freed_memory()
    main()
