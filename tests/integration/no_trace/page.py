"""The page docs/no_trace.md, written from what the tests found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
import torch

from tests.integration.no_trace.cases import (
    CASES,
    FACTORS,
    INDUCTOR,
    KINDS,
    REFERENCES,
    SHARDED,
    title,
)
from tests.integration.no_trace.constraints import CONSTRAINTS

PAGE = Path(__file__).parents[3] / "docs" / "no_trace.md"
NOT_RUN = "not run: "

MEANING = {
    "precision": "the trainer's `precision`",
    "normalization": "BatchNorm; frozen: kept in eval mode while training, with a convolution "
    "beside it that does not learn either; sync: the trainer's `sync_batchnorm`",
    "augmentation": "which global random generator the data set draws from, for each image",
    "processes": "on the CPU by gloo: DDP plain, with `static_graph`, with "
    "`find_unused_parameters`; compared on every process",
    "validation": "each epoch, every 2 steps, or on one batch",
    "optimization": "SGD with momentum and a scheduler per epoch; Adam with a scheduler per step; "
    "a GAN under manual optimization, with two optimizers and two schedulers",
    "checkpointing": "activation checkpointing, by `torch.utils.checkpoint` in the forward",
    "compile": "`torch.compile` of the network inside the LightningModule or of the "
    "LightningModule; with the backend `aot_eager`, and in two cases with `inductor`",
    "debugging": "the trainer's `deterministic` and `detect_anomaly`",
    "averaging": "Lightning's `EMAWeightAveraging` and `StochasticWeightAveraging`",
    "clipping": "the trainer's `gradient_clip_val`",
    "monitor": "whether it is the first or the last of the trainer's callbacks",
    "sanity_check": "the trainer's `num_sanity_val_steps`, 2 or 0",
    "num_workers": "of the loaders, with `persistent_workers`",
    "overfit_batches": "the trainer's `overfit_batches`",
    "dropout": "in the network",
    "accumulation": "the trainer's `accumulate_grad_batches`",
    "resumed": "the training breaks off after an epoch, and a new trainer goes on from the "
    "checkpoint",
}

INTRODUCTION = """\
# Training with the monitor is the same training

A callback in a job that takes days must not change the job. `AOPCMonitor` computes heatmaps, which
takes forward and backward passes, and draws random numbers, in the middle of the training of the
very network that it looks at. This page says what was done to make sure that the training does not
notice, and what came out. It is written by the tests in `tests/integration/no_trace`.

## What is compared

Each case is one short training, run twice from the same seed: without the monitor, and with a
monitor that evaluates three heatmaps after every optimizer step, at each validation, and when
training starts and ends. Afterwards these have to be the same, bit by bit:

- all weights and buffers;
- the states of all optimizers and learning rate schedulers;
- the random generators of torch, numpy and Python (and of GPUs, where they take part);
- all values that a logger received, with their steps, and Lightning's own record of metrics, apart
  from the monitor's values (`aopc/...`);
- everything in each saved checkpoint, with the states of the loops and of all other callbacks,
  apart from the monitor's own state;
- the mode (train or eval) of every submodule, and `requires_grad` of every parameter;
- these modes, the random generators and all gradients also after each single batch.

Further tests make sure that the comparison can fail: a callback that draws one random number, logs
one value, or touches any other of these, is found out. And a heatmap that writes to a parameter
stops the training with an error that names the parameter.

Not compared, since no callback that takes time could promise it: what depends on the clock, such as
the trainer's `max_time`, and checkpoints saved every so many minutes.
"""

MATRIX = """\
## What varies

The cases are generated: each value of each of these factors occurs with each value of each other
factor, in at least one case, wherever the two can go together. The cases with one process have all
such pairs of the other factors by themselves.
"""

IMPOSSIBLE = """\
## What cannot go together

These pairs are left out. Lightning or torch refuses them, or ignores one of the two, with or
without the monitor:
"""

CASES_TEXT = """\
## The cases

A case is listed with those values in which it differs from the first value of each factor above.
Then come trainings on other kinds of input: series, volumes, videos, tables, and texts, by
a convolutional network and by a small BERT, as mappings with masks and words. Their monitors make
figures, too. Others compare predictions with a reference, fitted beside the training on random
patches, or one that draws from all global random generators, and perturb the least relevant regions
first, too.

In the last ones Lightning's `ModelParallelStrategy` spreads the network over processes on the CPU:
`fsdp2` over two, parameter by parameter, `tensor_parallel` the two linear layers of its head over
two, and `fsdp2_tensor_parallel` over four by both. On every process its own shards of weights,
gradients and the optimizer's states are compared, and all of each distributed checkpoint. Further
trainings under FSDP2, tensor parallelism, DeepSpeed and Fabric are compared shard by shard by the
tests in `tests/integration/sharded`.
"""


class Row(NamedTuple):
    """What came out of a case, and with which versions."""

    result: str
    torch: str
    lightning: str


def row(result: str) -> Row:
    return Row(result, torch.__version__.split("+")[0], pl.__version__)


def titles() -> list[str]:
    return [title(case) for case in [*CASES, *INDUCTOR, *KINDS, *REFERENCES, *SHARDED]]


def rows_of(text: str) -> dict[str, Row]:
    """The rows of a page, by the titles of their cases."""
    cells = re.findall(r"^\| \d+ \| (.+) \| (.+) \| (\S+) \| (\S+) \|$", text, flags=re.MULTILINE)
    return {name: Row(*rest) for name, *rest in cells}


def merged(old: Mapping[str, Row], new: Mapping[str, Row]) -> dict[str, Row]:
    """New results in the place of old ones, but for cases that could not run this time."""
    ran = {name for name, r in old.items() if not r.result.startswith(NOT_RUN)}
    fresh = {n: r for n, r in new.items() if n not in ran or not r.result.startswith(NOT_RUN)}
    return {**old, **fresh}


def render(rows: Mapping[str, Row]) -> str:
    factors = ["| factor | values | what it is |", "|---|---|---|"]
    for name, values in FACTORS.items():
        listed = ", ".join(f"`{value}`" for value in values)
        factors.append(f"| {name} | {listed} | {MEANING[name]} |")
    constraints = []
    for constraint in CONSTRAINTS:
        pair = " with ".join(
            f"{f} {' or '.join(f'`{v}`' for v in values)}"
            for f, values in constraint.values.items()
        )
        constraints.append(f"- {pair}: {constraint.reason}.")
    table = ["| case | values | result | torch | Lightning |", "|---|---|---|---|---|"]
    for number, name in enumerate(titles(), 1):
        found = rows.get(name, Row(f"{NOT_RUN}not yet", "-", "-"))
        table.append(f"| {number} | {name} | {' | '.join(found)} |")
    parts = [INTRODUCTION, MATRIX, factors, IMPOSSIBLE, constraints, CASES_TEXT, table]
    return "\n".join(p if isinstance(p, str) else "\n".join(p) + "\n" for p in parts)
