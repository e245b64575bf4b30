"""Studies of many images, block by block: shared by processes, and resumed where they were left."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

import aopc_monitor
from recipes.shared.data.labelled_images import ImageData
from recipes.shared.data.labelled_tensors import TensorData
from recipes.shared.heatmap_study import digest, normalised
from recipes.shared.kept_files import save_whole
from recipes.shared.training.fitting import new_trainer


class Measure(Protocol):
    """What is measured on a block of images; the results come in parts that are kept apart."""

    @property
    def parts(self) -> Mapping[str, str]:
        """For each part a name, and a text that tells all settings that it depends on."""
        ...

    def __call__(
        self, network: nn.Module, images: Tensor, parts: Sequence[str]
    ) -> dict[str, dict[str, Tensor]]:
        """Some of the parts for images (N, 3, H, W): tensors (N, ...) on the CPU by name."""
        ...


class Blocks(Dataset[Tensor]):
    """The images of a study in blocks, each as the network sees it.

    Args:
        data: the images.
        rows: which test images.
        block_size: images per block; the last may be smaller.
    """

    def __init__(self, data: ImageData | TensorData, rows: Tensor, block_size: int) -> None:
        self.data, self.rows = data, rows.split(block_size)

    def __len__(self) -> int:
        """The number of blocks."""
        return len(self.rows)

    def __getitem__(self, number: int) -> Tensor:
        """Images (n, 3, H, W)."""
        return normalised(self.data, self.rows[number])


class Measurement(pl.LightningModule):
    """Measures blocks in a trainer's `predict`, each process its share, and keeps what is found.

    A file is named after all that its content depends on: settings, images, network, and version of
    the library. So a study that is started again goes on where it was, and other settings never
    find the wrong file.

    Args:
        network: the network.
        measure: what is measured.
        blocks: the images.
        folder: where the files are.
    """

    def __init__(self, network: nn.Module, measure: Measure, blocks: Blocks, folder: Path) -> None:
        super().__init__()
        self.network, self.measure = network, measure
        self.blocks, self.folder = blocks, folder
        self.network_digest = digest(network)

    def predict_dataloader(self) -> DataLoader[Any]:
        """The blocks of this process."""
        share = range(self.trainer.global_rank, len(self.blocks), self.trainer.world_size)
        return DataLoader(Subset(self.blocks, share), batch_size=None)

    def on_predict_start(self) -> None:
        """All processes take the network of the first."""
        # Processes that trained it together differ in what BatchNorm has seen.
        values = self.trainer.strategy.broadcast(self.network.state_dict())
        self.network.load_state_dict(values)
        self.network_digest = digest(self.network)
        self.folder.mkdir(parents=True, exist_ok=True)

    def predict_step(self, batch: Tensor, batch_idx: int) -> list[str]:
        """Measure a block of images, as far as that was not done before; the parts measured."""
        paths = self.paths(batch)
        missing = [part for part, path in paths.items() if not path.exists()]
        if missing:
            for part, found in self.measure(self.network, batch, missing).items():
                save_whole(found, paths[part])
        if self.trainer.received_sigterm:
            # Lightning only notes the signal, and ends trainings by it, but no predictions.
            raise SystemExit("stopped by SIGTERM; the same command goes on with the next block")
        return missing

    def on_predict_end(self) -> None:
        """Wait for the other processes."""
        self.trainer.strategy.barrier()

    def paths(self, images: Tensor) -> dict[str, Path]:
        """The file of each part of a block."""
        common = digest(images, self.network_digest, aopc_monitor.__version__)
        return {
            part: self.folder / f"{part}_{digest(settings, common)}.pt"
            for part, settings in self.measure.parts.items()
        }

    def collected(self, part: str) -> dict[str, Tensor]:
        """What all processes found, blocks joined: tensors (N, ...) by name.

        Raises:
            ValueError: if a file cannot be read.
        """
        blocks = (self.blocks[number] for number in range(len(self.blocks)))
        found = [_read(self.paths(images)[part]) for images in blocks]
        return {name: torch.cat([of_block[name] for of_block in found]) for name in found[0]}


def _read(file: Path) -> dict[str, Tensor]:
    try:
        found: dict[str, Tensor] = torch.load(file, weights_only=True)
    except (EOFError, RuntimeError, UnpicklingError) as error:
        raise ValueError(
            f"block {str(file)!r} is damaged: delete it, and the same command measures its images "
            "again"
        ) from error
    return found


def measured(
    network: nn.Module, measure: Measure, blocks: Blocks, folder: Path, options: argparse.Namespace
) -> Measurement | None:
    """Measure all blocks on the devices that the arguments name.

    Args:
        network: the network.
        measure: what is measured.
        blocks: the images.
        folder: where the files are.
        options: what `add_trainer_arguments` added.

    Returns:
        The measurement, from which results can be collected; None on all processes but the first.
    """
    measurement = Measurement(network, measure, blocks, folder)
    # Whatever precision it was trained in: differences between heatmaps are small.
    exact = argparse.Namespace(**{**vars(options), "precision": "32-true"})
    trainer = new_trainer(exact, 1, use_distributed_sampler=False)
    trainer.predict(measurement, return_predictions=False)
    return measurement if trainer.is_global_zero else None
