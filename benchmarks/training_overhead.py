"""How much longer a training takes with the monitor than without.

    python -m benchmarks.training_overhead --dataset cifar10

trains the recipes' small network in pairs, with the monitor's defaults and without, in turns and in
one process, so that what else the machine does hits both alike; prints each pair's ratio of wall
times and their median. The network is the hardest case: the smaller a network, the more an
evaluation weighs beside loading and augmenting its training images.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from aopc_monitor import AOPCMonitor, normalized_data_range
from recipes.shared.arguments import add_data_arguments, chosen_data
from recipes.shared.data.labelled_images import ImageData
from recipes.shared.training.classifier import ImageClassifier


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_data_arguments(parser)
    parser.add_argument("--steps", type=int, default=1000, help="of each training")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--every-n-steps", type=int, help="of the monitor")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data = chosen_data(options)
    print(f"{data.name}, {options.steps} steps of {data.plan.batch_size} images", flush=True)
    train(data, options, None, steps=20)  # the first training of a process is slow
    ratios = [ratio_of_a_pair(data, options, pair) for pair in range(options.pairs)]
    print(f"median {statistics.median(ratios):.3f}")


def ratio_of_a_pair(data: ImageData, options: argparse.Namespace, pair: int) -> float:
    """Wall time with the monitor over that without."""
    monitor = AOPCMonitor(
        every_n_steps=options.every_n_steps,
        data_range=normalized_data_range(data.mean, data.std),
        on_error="raise",
    )
    # Whoever runs second may find a warmer or a more throttled machine.
    turns = [None, monitor] if pair % 2 == 0 else [monitor, None]
    seconds = {turn: train(data, options, turn, options.steps) for turn in turns}
    ratio = seconds[monitor] / seconds[None]
    within = sum(record["aopc/seconds"] for record in monitor.history)
    print(
        f"{seconds[None]:.1f} s without, {seconds[monitor]:.1f} s with {len(monitor.history)} "
        f"evaluations, which took {within:.1f} s: {ratio:.3f}",
        flush=True,
    )
    return ratio


def train(
    data: ImageData, options: argparse.Namespace, monitor: AOPCMonitor | None, steps: int
) -> float:
    """Seconds of a training, data loading included and imports not."""
    warnings.filterwarnings("ignore")
    pl.seed_everything(options.seed, verbose=False)
    callbacks: list[Any] = [] if monitor is None else [monitor]
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator=options.accelerator,
        devices=1,
        logger=False,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = ImageClassifier(len(data.classes), data.plan.learning_rate)
    loaders = (
        DataLoader(data.train, batch_size=data.plan.batch_size, shuffle=True, drop_last=True),
        DataLoader(data.test, batch_size=250),
    )
    started = time.perf_counter()
    trainer.fit(module, *loaders)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
