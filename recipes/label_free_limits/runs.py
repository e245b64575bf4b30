"""One run of `label_free_limits`: a training, or a trained network on corrupted images."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from aopc_monitor import AOPCMonitor, normalized_data_range
from aopc_monitor.heatmaps import named_heatmaps
from recipes.label_free_limits.normalized import NormalizedAOPC, RivalsAndNormalized
from recipes.label_free_limits.regimes import Regime, data_of_regime, look_steps
from recipes.shared.data.labelled_images import ImageData, LabelledImages
from recipes.shared.reporting.run_folder import RunFolder
from recipes.shared.training.fitting import (
    TEST_BATCH_SIZE,
    EpochSeeds,
    loaders,
    new_classifier,
    new_trainer,
)

# What the monitor says of itself; wall times differ from run to run.
_OF_THE_MONITOR = ("aopc/seconds", "aopc/overhead", "aopc/failures")


@dataclass(frozen=True)
class Subjects:
    """The images of one run.

    Attributes:
        data: training and test images.
        source: labelled images held out of the training.
        train_probe: training images that the monitor looks at, not augmented.
        validation_probe: test images that the monitor looks at.
        probe_rows: which of the test images these are.
    """

    data: ImageData
    source: LabelledImages
    train_probe: LabelledImages
    validation_probe: LabelledImages
    probe_rows: Tensor

    @classmethod
    def of(
        cls, options: argparse.Namespace, data: ImageData, regime: Regime, seed: int
    ) -> Subjects:
        """Choose the images of a regime and seed."""
        chosen, source = data_of_regime(regime, data, options.source_images, seed)
        generator = torch.Generator().manual_seed(seed)
        train_rows, rows = (
            torch.randperm(len(part), generator=generator)[: options.num_images]
            for part in (chosen.train, chosen.test)
        )
        train_probe = chosen.train.part(train_rows, augmented=False)
        return cls(chosen, source, train_probe, chosen.test.part(rows), rows)

    def normalized(self, options: argparse.Namespace, images: Tensor) -> NormalizedAOPC | None:
        """What normalized AOPC is measured on: the first of the validation probe's images."""
        if not options.normalized_images:
            return None
        few = images[: options.normalized_images]
        data_range = normalized_data_range(self.data.mean, self.data.std)
        return NormalizedAOPC(few, named_heatmaps(options.heatmaps), data_range)


def batches(images: LabelledImages) -> DataLoader[Any]:
    """Batches in the order of the images."""
    return DataLoader(images, batch_size=TEST_BATCH_SIZE)


def all_images(images: LabelledImages) -> Tensor:
    """All images (N, 3, H, W) as the network sees them."""
    return torch.stack([image for image, _ in images.__getitems__(range(len(images)))])


def train_and_watch(
    options: argparse.Namespace, data: ImageData, regime: Regime, seed: int, folder: RunFolder
) -> list[dict[str, float]]:
    """Train under a regime; goes on from the last epoch of an interrupted training.

    Leaves the trained network's state dict in the folder, see `network_file`.

    Returns:
        One point for each look: its step, the numbers of both probes, accuracy and the rivals.
    """
    pl.seed_everything(seed, verbose=False)
    subjects = Subjects.of(options, data, regime, seed)
    train, test = loaders(subjects.data)
    monitor = new_monitor(options, subjects, seed)
    normalized = subjects.normalized(options, all_images(subjects.validation_probe))
    rivals = RivalsAndNormalized(monitor, test, batches(subjects.source), normalized)
    trainer = new_trainer(
        options,
        regime.max_epochs or data.plan.max_epochs,
        callbacks=[EpochSeeds(seed), monitor, rivals, *_endings(regime, folder)],
        enable_checkpointing=True,
    )
    steps = math.ceil(len(train) / trainer.world_size) * (trainer.max_epochs or 1)
    # The first look is before the first step.
    monitor.every_n_steps = look_steps(steps, options.evaluations - 1, regime.looks_late)
    model = new_classifier(data, options.network)
    trainer.fit(model, train, ckpt_path=folder.checkpoint if folder.is_begun else None)
    if trainer.is_global_zero:
        torch.save(model.network.state_dict(), network_file(folder.path))
    trainer.strategy.barrier()
    return [
        {**without_times(point), **beside}
        for point, beside in zip(monitor.history, rivals.points, strict=True)
    ]


def new_monitor(options: argparse.Namespace, subjects: Subjects, seed: int) -> AOPCMonitor:
    """A monitor of both probes, without its schedule."""
    return AOPCMonitor(
        options.heatmaps,
        at_validation=False,
        dataloader={
            "train": batches(subjects.train_probe),
            "validation": batches(subjects.validation_probe),
        },
        num_images=options.num_images,
        sampled_steps=options.sampled_steps,
        data_range=normalized_data_range(subjects.data.mean, subjects.data.std),
        lerf=True,
        seed=seed,
        on_error="raise",
    )


def _endings(regime: Regime, folder: RunFolder) -> list[pl.Callback]:
    """What may end a training: the accuracy that is wanted, or an interruption."""
    checkpoint = ModelCheckpoint(
        folder.path, filename=folder.checkpoint.stem, enable_version_counter=False
    )
    if regime.stop_at is None:
        return [checkpoint]
    stopping = EarlyStopping(
        "accuracy/train", mode="max", patience=regime.max_epochs or 1,
        stopping_threshold=regime.stop_at, check_on_train_epoch_end=True,
    )  # fmt: skip
    return [stopping, checkpoint]


def network_file(run: Path) -> Path:
    """The file in which a training leaves its network."""
    return run / "network.pt"


def trained(options: argparse.Namespace, data: ImageData, run: Path) -> nn.Module:
    """The network that a training left in its folder."""
    model = new_classifier(data, options.network)
    model.network.load_state_dict(torch.load(network_file(run), weights_only=True))
    return model.network.eval()


def without_times(point: Mapping[str, float]) -> dict[str, float]:
    """A point of the monitor's history without what it says of itself."""
    return {key: value for key, value in point.items() if key not in _OF_THE_MONITOR}


def with_bytes(images: LabelledImages, changed: Tensor) -> LabelledImages:
    """The same labels and normalisation for other pixels, uint8 (N, 3, H, W)."""
    return LabelledImages(changed, images.labels, images.mean, images.std)


def on_corrupted(subjects: Subjects, changed: Tensor) -> Subjects:
    """The same run with other test images, uint8 (N, 3, H, W)."""
    test = with_bytes(subjects.data.test, changed)
    return replace(
        subjects,
        data=replace(subjects.data, test=test),
        validation_probe=test.part(subjects.probe_rows),
    )
