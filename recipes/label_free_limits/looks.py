"""The second phase: what a network answers at each of its looks, kept in a file for each.

A look is some weights on some test images: the weights of each step of a training on the test
images as they are, or the last weights on corrupted ones. What is kept are answers, not signals, so
that another signal needs neither a training nor a look.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from aopc_monitor import normalized_data_range
from aopc_monitor.heatmaps import named_heatmaps
from aopc_monitor.monitor import (
    Measurement,
    collect_probe,
    evaluate_on_all_processes,
    record_of,
)
from aopc_monitor.network import ChunkSizesByNetwork
from aopc_monitor.perturbation import ProtocolChoices
from recipes.label_free_limits.answers import Answers, answers_of
from recipes.label_free_limits.normalized import normalized_on
from recipes.label_free_limits.subjects import Subjects, batches, decoded
from recipes.label_free_limits.training import step_of
from recipes.shared.data.corruptions import corrupted
from recipes.shared.training.fitting import new_trainer

CLEAN = "none"


@dataclass(frozen=True)
class Condition:
    """Some weights on some test images.

    Attributes:
        weights: the file of the weights.
        corruption: of the test images; "none" for none.
        severity: of the corruption, 0 for none.
    """

    weights: Path
    corruption: str = CLEAN
    severity: int = 0

    @classmethod
    def corrupted(
        cls, weights: Path, names: Sequence[str], severities: Sequence[int]
    ) -> list[Condition]:
        """The images as they are, and each corruption at each severity."""
        pairs = [(name, severity) for name in names for severity in severities]
        return [cls(weights), *(cls(weights, *pair) for pair in pairs)]

    @property
    def images(self) -> str:
        """Name of its test images."""
        return f"{self.corruption}_{self.severity}"

    @property
    def file(self) -> str:
        """Name of the file of its look."""
        return f"{step_of(self.weights):07d}_{self.images}.pt".replace(" ", "_")


@dataclass(frozen=True)
class Look:
    """What a network answered.

    Attributes:
        step: of the training.
        corruption: of the test images.
        severity: of the corruption.
        numbers: of the monitor's evaluation, under its keys, such as "aopc/lrp".
        test: answers on the test images; those of the probe come first.
        source: on the labelled images held out of the training.
        known: on training images.
    """

    step: int
    corruption: str
    severity: int
    numbers: Mapping[str, float]
    test: Answers
    source: Answers
    known: Answers


def on_condition(subjects: Subjects, condition: Condition, seed: int) -> Subjects:
    """The images of a run under a condition.

    Args:
        subjects: the images as they are.
        condition: of the test images.
        seed: of the noise that images are corrupted by.
    """
    if condition.corruption == CLEAN:
        return subjects
    clean = decoded(subjects.data.test)
    return subjects.on(corrupted(clean, condition.corruption, condition.severity, seed))


def look_at(
    options: argparse.Namespace,
    network: nn.Module,
    subjects: Subjects,
    conditions: Sequence[Condition],
    folder: Path,
    seed: int,
) -> list[Look]:
    """Looks at a network under several conditions; those whose files are there are read.

    Args:
        options: of the recipe.
        network: that the weights are of.
        subjects: the images.
        conditions: weights and images.
        folder: of the files.
        seed: of the order of images, ties and noise, and of the noise that images are corrupted by.

    Returns:
        One look for each condition.
    """
    missing = [c for c in conditions if not (folder / c.file).exists()]
    if missing:
        looks = Looks(network, options, subjects, missing, folder, seed)
        # Heatmaps need gradients, and every process takes part in every look.
        trainer = new_trainer(options, 1, inference_mode=False, use_distributed_sampler=False)
        places: Any = range(len(missing))
        trainer.predict(looks, DataLoader(places, collate_fn=list), return_predictions=False)
        trainer.strategy.barrier()
    return [_read(folder / condition.file) for condition in conditions]


def _read(file: Path) -> Look:
    kept = torch.load(file, weights_only=True)
    answers = {name: Answers(**kept[name]) for name in ("test", "source", "known")}
    return Look(**{**kept, **answers})


class Looks(pl.LightningModule):
    """Looks at a network once per condition, in a predict loop whose batches are conditions.

    All processes go through all conditions together and share the images.

    Args:
        network: returns logits.
        options: of the recipe.
        subjects: the images.
        conditions: weights and images.
        folder: of the files.
        seed: see `look_at`.
    """

    def __init__(
        self,
        network: nn.Module,
        options: argparse.Namespace,
        subjects: Subjects,
        conditions: Sequence[Condition],
        folder: Path,
        seed: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.options, self.subjects, self.conditions = options, subjects, conditions
        self.folder, self.seed = folder, seed
        self._of_training: dict[str, dict[str, Tensor]] = {}
        self._weights: Path | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of normalised images (N, 3, H, W)."""
        logits: Tensor = self.network(images)
        return logits

    def predict_step(self, batch: list[int], batch_idx: int) -> None:
        """All answers under one condition."""
        condition = self.conditions[batch[0]]
        self._take_weights(condition.weights)
        subjects = on_condition(self.subjects, condition, self.seed)
        look = {
            "step": step_of(condition.weights),
            "corruption": condition.corruption,
            "severity": condition.severity,
            "numbers": self._numbers(subjects),
            "test": self._answers(subjects, "test", features_of=subjects.probe_size),
            **self._of_training,
        }
        if self.trainer.is_global_zero:
            unfinished = self.folder / "part"
            torch.save(look, unfinished)
            unfinished.replace(self.folder / condition.file)

    def _take_weights(self, file: Path) -> None:
        """Read weights, and look with them at what no corruption changes."""
        if file == self._weights:
            return
        self._weights = file
        self.network.load_state_dict(torch.load(file, weights_only=True))
        self._of_training = {
            "source": self._answers(self.subjects, "source", features_of=0),
            "known": self._answers(self.subjects, "known", len(self.subjects.known)),
        }

    def _answers(self, subjects: Subjects, name: str, features_of: int) -> dict[str, Tensor]:
        images = subjects.data.test if name == "test" else getattr(subjects, name)
        found = answers_of(self.trainer, self, self.network, batches(images))
        return {"logits": found.logits, "features": found.features[:features_of].clone()}

    def _numbers(self, subjects: Subjects) -> dict[str, float]:
        """What the monitor would say of the first images of the probe."""
        options, data = self.options, subjects.data
        probe = collect_probe(batches(subjects.perturbed), options.num_images, seed=self.seed)
        choices = ProtocolChoices(
            sampled_steps=options.sampled_steps,
            data_range=normalized_data_range(data.mean, data.std),
        )
        measurement = Measurement(
            probe, choices.for_images(probe.images), named_heatmaps(options.heatmaps), self.seed,
            lerf=True,
        )  # fmt: skip
        found = evaluate_on_all_processes(
            self.trainer, self, lambda module: module, {"": measurement},
            ChunkSizesByNetwork(None, searching=False),
        )  # fmt: skip
        few = subjects.normalized(options)
        return {**record_of("aopc", found), **normalized_on(self.trainer, self, few)}
