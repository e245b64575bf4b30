"""Where AOPC stops following accuracy, and whether any signal without labels does better.

python -m recipes.label_free_limits --image-folder DIR

Four regimes, each with several seeds: clean training; 40% of the labels wrong, trained until the
network has memorised them; a small training set; and the network of the clean training on corrupted
test images. Each run is one folder. Started again, the command reads the runs that are finished and
goes on with the training that was interrupted, from its last epoch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytorch_lightning as pl
from tqdm import tqdm

from aopc_monitor import heatmaps
from recipes.label_free_limits.corruption_looks import look_at_corrupted
from recipes.label_free_limits.regimes import REGIMES
from recipes.label_free_limits.report import write_study
from recipes.label_free_limits.runs import Subjects, train_and_watch, trained
from recipes.label_free_limits.signals import signals
from recipes.label_free_limits.study import CORRUPTED, TITLES, LimitsRun, LimitsStudy
from recipes.shared.arguments import (
    add_data_arguments,
    add_seed_of_digits,
    add_trainer_arguments,
    check_seed_of_digits,
    chosen_data,
    command_line,
    data_folder,
)
from recipes.shared.data.labelled_images import ImageData
from recipes.shared.reporting.run_folder import RunFolder
from recipes.shared.training.networks import SMALL

# The training whose network is looked at on corrupted images.
FIXED = "clean"
FEWEST_EVALUATIONS = 6


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line to settings."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.label_free_limits",
        description="Find out where AOPC stops following accuracy.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--network",
        default="small_cnn",
        metavar="NAME",
        help=f"{', '.join(SMALL)}, a classification model of torchvision, or module:function",
    )
    parser.add_argument(
        "--regimes",
        nargs="+",
        default=list(TITLES),
        choices=list(TITLES),
        help=f"{CORRUPTED} trains the network of {FIXED} first",
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, help="of the trainings", default=[0, 1, 2], metavar="SEED"
    )
    _add_monitor_arguments(parser)
    add_trainer_arguments(parser, has_seeds=True)
    add_seed_of_digits(parser)
    parser.add_argument("--output", type=Path, default=Path("runs"))
    options = parser.parse_args(arguments)
    check_seed_of_digits(parser, options)
    if options.evaluations < FEWEST_EVALUATIONS:
        parser.error(
            f"--evaluations {options.evaluations}: for correlations over a whole training and "
            f"after its peak at least {FEWEST_EVALUATIONS} are needed"
        )
    return options


def _add_monitor_arguments(parser: argparse.ArgumentParser) -> None:
    monitor = parser.add_argument_group("monitor")
    monitor.add_argument(
        "--heatmaps",
        nargs="+",
        default=["lrp", "deconvolution_l2", "sensitivity_l2"],
        metavar="NAME",
        help=f"of {', '.join(heatmaps.names()[:-1])}",
    )
    monitor.add_argument("--evaluations", type=int, default=20, help="looks at each training")
    monitor.add_argument("--num-images", type=int, default=256, help="size of each of two probes")
    monitor.add_argument("--sampled-steps", type=int, default=4, help="of each image")
    monitor.add_argument(
        "--normalized-images",
        type=int,
        default=32,
        help="test images that normalized AOPC is measured on, which is expensive; 0 for none",
    )
    monitor.add_argument(
        "--source-images",
        type=int,
        default=1000,
        help="labelled images held out of the training, for average thresholded confidence",
    )


def main(arguments: Sequence[str] | None = None) -> LimitsStudy:
    """Train, look, compare, report."""
    options = parse_arguments(arguments)
    data = chosen_data(options)
    output = data_folder(options.output / "label_free_limits", data)
    runs = Runs(options, data, output / options.network.replace(":", "."))
    wanted = [(regime, seed) for regime in options.regimes for seed in options.seeds]
    progress = tqdm(wanted, "runs", disable=not is_process_zero())
    found = [runs.get(regime, seed) for regime, seed in progress]
    compared = signals(options.heatmaps, with_normalized=options.normalized_images > 0)
    study = LimitsStudy(data.name, options.heatmaps, compared, found)
    if is_process_zero():
        command = command_line("recipes.label_free_limits", arguments)
        for file in write_study(study, runs.output, command, settings_of(options)):
            print(file)
    return study


def settings_of(options: argparse.Namespace) -> dict[str, str]:
    """What two runs must share to belong together."""
    elsewhere = ("output", "regimes", "seeds", "accelerator", "strategy")
    return {key: str(value) for key, value in vars(options).items() if key not in elsewhere}


def regime_of(regime: str) -> str:
    """How the network of a run is trained, as text."""
    return str(REGIMES[FIXED if regime == CORRUPTED else regime])


@dataclass
class Runs:
    """All runs of one command; each is made once, or read if an earlier command made it.

    Attributes:
        options: of the command line.
        data: the images.
        output: the folder of the runs.
    """

    options: argparse.Namespace
    data: ImageData
    output: Path
    # Runs are kept rather than read back: other processes may be ahead of the one that writes.
    _made: dict[tuple[str, int], LimitsRun] = field(default_factory=dict)

    def get(self, regime: str, seed: int) -> LimitsRun:
        """The run of a regime and seed."""
        if (regime, seed) not in self._made:
            settings = settings_of(self.options) | {"regime": regime_of(regime)}
            folder = RunFolder(self._path(regime, seed), settings)
            points = folder.read_points()
            if points is None:
                folder.begin()
                points = self._make(regime, seed, folder)
                if is_process_zero():
                    folder.write_points(points)
            self._made[regime, seed] = LimitsRun(regime, seed, points)
        return self._made[regime, seed]

    def _path(self, regime: str, seed: int) -> Path:
        return self.output / regime / f"seed_{seed}"

    def _make(self, regime: str, seed: int, folder: RunFolder) -> list[dict[str, float]]:
        if regime != CORRUPTED:
            return train_and_watch(self.options, self.data, REGIMES[regime], seed, folder)
        self.get(FIXED, seed)
        network = trained(self.options, self.data, self._path(FIXED, seed))
        subjects = Subjects.of(self.options, self.data, REGIMES[FIXED], seed)
        return look_at_corrupted(network, self.options, subjects, seed)


def is_process_zero() -> bool:
    """Whether this process is the one that writes and prints."""
    return int(getattr(pl.utilities.rank_zero_only, "rank", 0)) == 0


if __name__ == "__main__":
    main()
