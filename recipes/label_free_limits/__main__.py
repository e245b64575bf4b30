"""Which signals without labels follow accuracy, and where they stop.

python -m recipes.label_free_limits --image-folder DIR

Several regimes, each with several seeds: clean training; wrong labels, trained until the network
has memorised them; a small training set; the network of the clean training on corrupted test
images; and more. Trainings leave the weights of each look, looks leave the answers of the network,
and signals are made of these. Started again, the command reads what is there and goes on with what
is not.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from tqdm import tqdm

from aopc_monitor import heatmaps
from recipes.label_free_limits.plan import DEFAULT, TITLES, Group
from recipes.label_free_limits.points import limits_run
from recipes.label_free_limits.report import write_study
from recipes.label_free_limits.runs import Run, settings_of
from recipes.label_free_limits.signals import signals
from recipes.label_free_limits.study import LimitsRun, LimitsStudy
from recipes.shared.arguments import (
    add_data_arguments,
    add_seed_of_digits,
    add_trainer_arguments,
    check_seed_of_digits,
    chosen_data,
    command_line,
    data_folder,
)
from recipes.shared.data.corruptions import SEVERITIES
from recipes.shared.freed_memory import keep_all_freed_memory
from recipes.shared.training.networks import SMALL

FEWEST_EVALUATIONS = 6


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line to settings; `groups` are the runs."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.label_free_limits",
        description="Find out which label-free signals follow accuracy, and where they stop.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_data_arguments(parser)
    _add_plan_arguments(parser)
    _add_look_arguments(parser)
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
    try:
        groups_of(options)
    except ValueError as error:
        parser.error(f"--regimes {error}")
    return options


def _add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    plan = parser.add_argument_group("plan")
    plan.add_argument(
        "--regimes", nargs="+", default=list(DEFAULT), metavar="REGIME[/NETWORK][:COUNT]",
        help=f"{', '.join(TITLES)}; of a network other than --network; with the first seeds only",
    )  # fmt: skip
    plan.add_argument(
        "--network", default="small_cnn", metavar="NAME",
        help=f"{', '.join(SMALL)}, a classification model of torchvision, or module:function",
    )  # fmt: skip
    plan.add_argument(
        "--seeds", nargs="+", type=int, help="of the trainings", default=[0, 1, 2], metavar="SEED"
    )
    plan.add_argument(
        "--train-only", action="store_true", help="leave the looks to a later command"
    )
    plan.add_argument("--threads", type=int, help="of PyTorch on a CPU")


def _add_look_arguments(parser: argparse.ArgumentParser) -> None:
    looks = parser.add_argument_group("looks")
    counts = {
        "evaluations": (14, "looks at each training"),
        "test-images": (10_000, "that accuracy is measured on"),
        "probe-images": (1_000, "the first of them, that all signals look at"),
        "num-images": (256, "the first of these, that AOPC is measured on"),
        "known-images": (2_000, "training images whose labels are compared with predictions"),
        "source-images": (1_000, "labelled images held out of the training"),
        "sampled-steps": (4, "of each image"),
        "normalized-images": (0, "that normalized AOPC is measured on, which is expensive"),
    }
    for name, (count, text) in counts.items():
        looks.add_argument(f"--{name}", type=int, default=count, help=text)
    looks.add_argument(
        "--heatmaps", nargs="+", default=["lrp"], metavar="NAME",
        help=f"of {', '.join(heatmaps.names()[:-1])}",
    )  # fmt: skip
    looks.add_argument(
        "--severities", nargs="+", type=int, default=list(SEVERITIES), choices=SEVERITIES,
        help="of the corruptions",
    )  # fmt: skip


def groups_of(options: argparse.Namespace) -> list[Group]:
    """The runs of each table."""
    return [Group.of(text, options.network, options.seeds) for text in options.regimes]


def main(arguments: Sequence[str] | None = None) -> LimitsStudy | None:
    """Train, look, compare, report; None where only the trainings are wanted."""
    options = parse_arguments(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    data = chosen_data(options)
    output = data_folder(options.output / "label_free_limits", data)
    wanted = [
        (group, Run(options, data, output, group.regime, group.network, seed))
        for group in groups_of(options) for seed in group.seeds
    ]  # fmt: skip
    for _, run in tqdm(wanted, "trainings", disable=not is_process_zero()):
        run.train()
    if options.train_only:
        return None
    compared = signals(options.heatmaps, with_normalized=options.normalized_images > 0)
    found: dict[Group, list[LimitsRun]] = {}
    for group, run in tqdm(wanted, "looks", disable=not is_process_zero()):
        found.setdefault(group, []).append(limits_run(run, compared))
    study = LimitsStudy(data.name, compared, found)
    if is_process_zero():
        command = command_line("recipes.label_free_limits", arguments)
        for file in write_study(study, output, command, settings_of(options)):
            print(file)
    return study


def is_process_zero() -> bool:
    """Whether this process is the one that writes and prints."""
    return int(getattr(pl.utilities.rank_zero_only, "rank", 0)) == 0


if __name__ == "__main__":
    keep_all_freed_memory()
    main()
