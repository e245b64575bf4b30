"""The runs of one command: each is made once, or read if an earlier command made it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from recipes.label_free_limits.looks import Condition, Look, look_at
from recipes.label_free_limits.plan import CORRUPTION_SETS
from recipes.label_free_limits.regimes import FIXED, REGIMES, Regime
from recipes.label_free_limits.subjects import Subjects
from recipes.label_free_limits.training import (
    Weights,
    chosen_files,
    step_of,
    train_and_keep,
    weight_files,
)
from recipes.shared.data.labelled_images import ImageData
from recipes.shared.reporting.run_folder import RunFolder
from recipes.shared.training.fitting import new_classifier

# What a training depends on, beside its regime, network and seed.
_OF_TRAININGS = (
    "dataset", "image_folder", "image_size", "seed", "max_epochs", "source_images", "devices",
    "precision",
)  # fmt: skip
# What a look depends on as well.
_OF_LOOKS = (
    "heatmaps", "num_images", "probe_images", "test_images", "known_images", "sampled_steps",
    "normalized_images",
)  # fmt: skip


def settings_of(options: argparse.Namespace) -> dict[str, str]:
    """What two runs must share to belong together, as texts."""
    return {key: str(getattr(options, key)) for key in (*_OF_TRAININGS, *_OF_LOOKS)}


@dataclass
class Run:
    """One training, and the looks at what it left.

    Attributes:
        options: of the command line.
        data: all images.
        output: the folder of all runs.
        regime: a key of `plan.TITLES`.
        network: name of the network.
        seed: of every random choice.
    """

    options: argparse.Namespace
    data: ImageData
    output: Path
    regime: str
    network: str
    seed: int

    @property
    def is_training(self) -> bool:
        """Whether the points follow each other; else the network of another run is looked at."""
        return self.regime in REGIMES

    @property
    def how(self) -> Regime:
        """How the network is trained."""
        return REGIMES[self.regime if self.is_training else FIXED]

    @property
    def training(self) -> Run:
        """The run whose training is looked at."""
        other = FIXED if not self.is_training else self.how.trained_as
        return self if other is None else replace(self, regime=other)

    @cached_property
    def subjects(self) -> Subjects:
        """The images."""
        return Subjects.of(self.options, self.data, self.how, self.seed)

    @property
    def path(self) -> Path:
        """The folder of the run."""
        name = self.network.replace(":", ".")
        return self.output / name / self.regime / f"seed_{self.seed}"

    def train(self) -> None:
        """Make the weights, unless they are there."""
        if self.training is not self:
            return self.training.train()
        settings = {key: str(getattr(self.options, key)) for key in _OF_TRAININGS}
        folder = RunFolder(self.path, settings | {"regime": str(self.how.of_training())})
        if folder.read_points() is not None:
            return None
        folder.begin()
        start = self._start()
        options = argparse.Namespace(**{**vars(self.options), "network": self.network})
        train_and_keep(options, self.subjects.data, self.how, self.seed, folder, start)
        folder.write_points([{"step": step_of(file)} for file in weight_files(self.path)])
        return None

    def _start(self) -> Weights | None:
        if self.how.starts_from is None:
            return None
        before = replace(self, regime=self.how.starts_from)
        before.train()
        weights: Weights = torch.load(weight_files(before.path)[-1], weights_only=True)
        return weights

    def looks(self) -> list[Look]:
        """What the network answers at each look, or under each condition."""
        self.train()
        folder = RunFolder(self.path / "looks", settings_of(self.options))
        folder.read_points()  # refuses looks of other settings
        folder.begin()
        network = new_classifier(self.data, self.network).network
        return look_at(
            self.options, network, self.subjects, self.conditions(), folder.path, self.seed
        )

    @property
    def reference_file(self) -> Path:
        """What references see in the probe; it does not depend on the network."""
        return self.output / "references" / self.regime / f"seed_{self.seed}.pt"

    def conditions(self) -> list[Condition]:
        """The weights and images that are looked at."""
        run, options = self.training, self.options
        if self.is_training:
            files = chosen_files(run.path, options.evaluations, self.how.looks_late)
            return [Condition(file) for file in files]
        names = CORRUPTION_SETS[self.regime]
        return Condition.corrupted(weight_files(run.path)[-1], names, options.severities)
