"""Fig. 7 of Samek et al. 2017 on time series: does AOPC follow the accuracy of a training?

python -m recipes.series_progress                                  # nothing is downloaded
python -m recipes.series_progress --dataset gun_point italy_power_demand basic_motions
python -m recipes.series_progress --networks lstm --seeds 0 1 2

A network of convolutions and an LSTM are trained on real series that ship in the wheel of aeon.
Started again, it reads the trainings that are finished and goes on with the one that was
interrupted. Several sets are studied one after the other, and compared in a table at the end.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from aopc_monitor import AOPCMonitor, heatmaps
from recipes.series_progress.gallery import gallery
from recipes.series_progress.report import LEGEND, overview, write
from recipes.shared.arguments import add_trainer_arguments, command_line, data_folder
from recipes.shared.data.labelled_tensors import TensorData
from recipes.shared.data.series import SERIES_SETS, load_series
from recipes.shared.freed_memory import keep_all_freed_memory
from recipes.shared.reporting.run_folder import RunFolder
from recipes.shared.training.beside import LabelFreeRivals
from recipes.shared.training.classifier import TensorClassifier
from recipes.shared.training.fitting import loaders
from recipes.shared.training.series_networks import PACE, SERIES_NETWORKS
from recipes.shared.training.watched_training import finished_trainings, watched_training
from recipes.training_progress.figures import figure_of_run
from recipes.training_progress.report import Run, Study

EPOCHS_PER_CHECKPOINT = 10


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line to settings."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.series_progress",
        description="Train networks on time series and watch AOPC follow their accuracy.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--dataset", nargs="+", choices=tuple(SERIES_SETS), default=["gun_point"], metavar="NAME",
        help=f"one or several of {', '.join(SERIES_SETS)}",
    )  # fmt: skip
    parser.add_argument(
        "--networks", nargs="+", choices=tuple(SERIES_NETWORKS), default=list(SERIES_NETWORKS)
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, help="of the trainings", default=[0], metavar="SEED"
    )
    monitor = parser.add_argument_group("monitor")
    monitor.add_argument(
        "--heatmaps",
        nargs="+",
        default=["lrp", "sensitivity_l2"],
        metavar="NAME",
        help=f"of {', '.join(heatmaps.names()[:-1])}",
    )
    monitor.add_argument("--evaluations", type=int, default=20, help="log-spaced over training")
    monitor.add_argument("--num-series", type=int, default=128, help="size of the probe")
    monitor.add_argument("--region-size", type=int, help="time steps; chosen to fit if not given")
    monitor.add_argument("--steps", type=int, help="perturbed regions; chosen if not given")
    monitor.add_argument("--sampled-steps", type=int, help="of each series; all if not given")
    monitor.add_argument("--replacement", default="linear", help="of a perturbed region")
    monitor.add_argument("--num-shown", type=int, default=4, help="series of the gallery")
    add_trainer_arguments(parser, has_seeds=True)
    parser.add_argument("--output", type=Path, default=Path("runs"))
    options = parser.parse_args(arguments)
    if options.evaluations < 3:
        parser.error(f"--evaluations {options.evaluations}: a correlation needs at least 3")
    if options.num_shown < 1:
        parser.error(f"--num-shown {options.num_shown}: a gallery shows at least 1 series")
    return options


def main(arguments: Sequence[str] | None = None) -> list[Study]:
    """Train, watch, report: one study for each set."""
    options = parse_arguments(arguments)
    command = command_line("recipes.series_progress", arguments)
    studies = []
    for name in options.dataset:
        studies.append(_studied(argparse.Namespace(**{**vars(options), "dataset": name}), command))
    if len(studies) > 1:
        _compare(studies, options.output / "series_progress", command)
    return studies


def _studied(options: argparse.Namespace, command: str) -> Study:
    """All trainings on one set."""
    data = load_series(options.dataset)
    parent = data_folder(options.output / "series_progress", data)
    folder = parent.with_name(f"{parent.name}-{options.replacement}")
    trainings = finished_trainings(options, folder, partial(_train, options, data))
    study = Study(data.name, options.heatmaps, [Run(*training) for training in trainings])
    _write(study, data, folder, command)
    return study


def _train(
    options: argparse.Namespace, data: TensorData, folder: RunFolder, network: str, seed: int
) -> list[dict[str, float]]:
    """One point for each look of the monitor; figures and points are kept."""
    pl.seed_everything(seed, verbose=False)
    channels = data.train.tensors.shape[1]
    built = SERIES_NETWORKS[network](channels, len(data.classes))
    model = TensorClassifier(built, PACE[network] * data.plan.learning_rate)
    both = loaders(data)
    rivals = LabelFreeRivals(_monitor(options, seed), both[1])
    epochs = data.plan.max_epochs
    points = watched_training(
        options, folder, model, both, rivals, seed, epochs, EPOCHS_PER_CHECKPOINT
    )
    _keep(folder, Run(network, seed, points), data, model, options)
    return points


def _monitor(options: argparse.Namespace, seed: int) -> AOPCMonitor:
    return AOPCMonitor(
        options.heatmaps,
        at_validation=False,
        num_images=options.num_series,
        region_size=options.region_size,
        steps=options.steps,
        sampled_steps=options.sampled_steps,
        replacement=options.replacement,
        seed=seed,
        on_error="raise",
        figures=True,
        custom_scalars=True,
    )


@rank_zero_only
def _keep(
    folder: RunFolder,
    run: Run,
    data: TensorData,
    model: TensorClassifier,
    options: argparse.Namespace,
) -> None:
    figure_of_run(run, data.name, options.heatmaps).savefig(folder.path / "figure.png")
    title = f"{data.name}, {run.network}: the trained network"
    shown = gallery(model.network.cpu(), data, options.heatmaps, options.num_shown, title)
    shown.savefig(folder.path / "gallery.png")
    # The points come last: with them, the run is finished.
    folder.write_points(run.points)


@rank_zero_only
def _write(study: Study, data: TensorData, folder: Path, command: str) -> None:
    write(study, data, folder, command)
    print(f"\n{study.text()}\n")
    print(f"figure   {folder / 'figure.png'}")
    print(f"points   {folder / 'points.csv'}")
    print(f"report   {folder / 'report.md'}")


@rank_zero_only
def _compare(studies: Sequence[Study], folder: Path, command: str) -> None:
    table = overview(studies)
    text = f"# All series at the end of training\n\n{table}\n\n{LEGEND}\n\nMade by `{command}`.\n"
    (folder / "report.md").write_text(text, encoding="utf-8")
    print(f"\n{table}\n\nreport   {folder / 'report.md'}")


if __name__ == "__main__":
    keep_all_freed_memory()
    main()
