"""A trained network on corrupted test images: the same numbers as in a training, one point each."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from aopc_monitor import normalized_data_range
from aopc_monitor.heatmaps import named_heatmaps
from aopc_monitor.metrics import Evaluation
from aopc_monitor.monitor import (
    Measurement,
    collect_probe,
    evaluate_on_all_processes,
    record_of,
)
from aopc_monitor.network import ChunkSizesByNetwork
from aopc_monitor.perturbation import ProtocolChoices
from recipes.label_free_limits.normalized import normalized_on
from recipes.label_free_limits.runs import Subjects, all_images, batches, on_corrupted
from recipes.shared.data.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from recipes.shared.training.beside import rivals, scores_of_images
from recipes.shared.training.fitting import new_trainer

CLEAN = "none"
# Files of numbers know a corruption by its position here.
NAMES = (CLEAN, *CORRUPTIONS)
CONDITIONS = [(CLEAN, 0), *((name, severity) for name in CORRUPTIONS for severity in SEVERITIES)]


class CorruptionLooks(pl.LightningModule):
    """Looks at a network once per condition, in a predict loop whose batches are conditions.

    All processes go through all conditions together and share the images.

    Args:
        network: trained, returns logits.
        options: of the recipe.
        subjects: the images of the training that the network comes from.
        seed: of the probe, ties and noise, and of the noise that images are corrupted by.
    """

    def __init__(
        self, network: nn.Module, options: argparse.Namespace, subjects: Subjects, seed: int
    ) -> None:
        super().__init__()
        self.network = network
        self.options, self.subjects, self.seed = options, subjects, seed
        self._on_training_images: Mapping[str, Evaluation] = {}
        self._source: dict[str, Tensor] = {}

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of normalised images (N, 3, H, W)."""
        logits: Tensor = self.network(images)
        return logits

    def on_predict_start(self) -> None:
        """What no condition changes is looked at once."""
        self._on_training_images = self._evaluations({"train": self.subjects.train_probe})
        self._source = scores_of_images(self.trainer, self, batches(self.subjects.source))

    def predict_step(self, batch: list[int], batch_idx: int) -> dict[str, float]:
        """All numbers of one condition."""
        name, severity = CONDITIONS[batch[0]]
        test = self.subjects.data.test
        clean = test.images[torch.arange(len(test))]  # decoded, if they are files
        changed = clean if name == CLEAN else corrupted(clean, name, severity, self.seed)
        subjects = on_corrupted(self.subjects, changed)
        found = self._evaluations({"validation": subjects.validation_probe})
        target = scores_of_images(self.trainer, self, batches(subjects.data.test))
        few = subjects.normalized(self.options, all_images(subjects.validation_probe))
        return {
            "corruption": NAMES.index(name),
            "severity": severity,
            **record_of("aopc", {**self._on_training_images, **found}),
            **rivals(target, self._source),
            **normalized_on(self.trainer, self, few),
        }

    def _evaluations(self, probes: Mapping[str, Any]) -> dict[str, Evaluation]:
        options, data = self.options, self.subjects.data
        measurements = {}
        for name, images in probes.items():
            # The images in the order in which the monitor looked at them.
            probe = collect_probe(batches(images), options.num_images, seed=self.seed)
            choices = ProtocolChoices(
                sampled_steps=options.sampled_steps,
                data_range=normalized_data_range(data.mean, data.std),
            )
            protocol = choices.for_images(probe.images)
            heatmaps = named_heatmaps(options.heatmaps)
            measurements[name] = Measurement(probe, protocol, heatmaps, self.seed, lerf=True)
        chunks = ChunkSizesByNetwork(None, searching=False)
        return evaluate_on_all_processes(
            self.trainer, self, lambda module: module, measurements, chunks
        )


def look_at_corrupted(
    network: nn.Module, options: argparse.Namespace, subjects: Subjects, seed: int
) -> list[dict[str, float]]:
    """One point for each of the 21 conditions of `CONDITIONS`.

    Args:
        network: trained, returns logits.
        options: of the recipe.
        subjects: the images of the training that the network comes from.
        seed: of every random choice.
    """
    looks = CorruptionLooks(network, options, subjects, seed)
    # Heatmaps need gradients, and every process takes part in every condition.
    trainer = new_trainer(options, 1, inference_mode=False, use_distributed_sampler=False)
    conditions: Any = range(len(CONDITIONS))
    points: list[Any] = trainer.predict(looks, DataLoader(conditions, collate_fn=list)) or []
    return points
