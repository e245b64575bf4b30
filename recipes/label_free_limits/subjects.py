"""The images of one run: what is trained on, and what is looked at."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from aopc_monitor import normalized_data_range
from aopc_monitor.heatmaps import named_heatmaps
from recipes.label_free_limits.normalized import NormalizedAOPC
from recipes.label_free_limits.regimes import Regime, data_of_regime
from recipes.shared.data.corruptions import corrupted
from recipes.shared.data.labelled_images import ImageData, LabelledImages
from recipes.shared.training.fitting import TEST_BATCH_SIZE


@dataclass(frozen=True)
class Subjects:
    """The images of one run.

    Attributes:
        data: training images with the labels they are given, and the test images that accuracy is
            measured on, in a random order: the first of them are the probe.
        source: labelled images held out of the training, with labels as wrong as the training's.
        known: training images as they are trained on, not augmented, whose labels as given are
            those of `nn1_mi`'s neighbours.
        probe_size: how many of the test images are the probe that all signals look at.
        aopc_size: how many images of the probe are perturbed.
    """

    data: ImageData
    source: LabelledImages
    known: LabelledImages
    probe_size: int
    aopc_size: int

    @classmethod
    def of(
        cls, options: argparse.Namespace, data: ImageData, regime: Regime, seed: int
    ) -> Subjects:
        """Choose the images of a regime and seed."""
        chosen, source = data_of_regime(regime, data, options.source_images, seed)
        generator = torch.Generator().manual_seed(seed)
        known, rows = (
            torch.randperm(len(part), generator=generator)[:count]
            for part, count in (
                (chosen.train, options.known_images), (chosen.test, options.test_images),
            )
        )  # fmt: skip
        test = chosen.test.part(rows)
        if regime.shift is not None:
            test = with_bytes(test, corrupted(decoded(test), *regime.shift, seed))
        return cls(
            replace(chosen, test=test), source, chosen.train.part(known, augmented=False),
            min(options.probe_images, len(test)), min(options.num_images, len(test)),
        )  # fmt: skip

    @property
    def probe(self) -> LabelledImages:
        """The test images that all signals look at."""
        return self.data.test.part(torch.arange(self.probe_size))

    @property
    def perturbed(self) -> LabelledImages:
        """The images of the probe that AOPC is measured on."""
        return self.data.test.part(torch.arange(self.aopc_size))

    def normalized(self, options: argparse.Namespace) -> NormalizedAOPC | None:
        """What normalized AOPC is measured on: the first of the perturbed images."""
        if not options.normalized_images:
            return None
        few = all_images(self.perturbed)[: options.normalized_images]
        data_range = normalized_data_range(self.data.mean, self.data.std)
        return NormalizedAOPC(few, named_heatmaps(options.heatmaps), data_range)

    def on(self, changed: Tensor) -> Subjects:
        """The same run with other test images, uint8 (N, 3, H, W)."""
        return replace(self, data=replace(self.data, test=with_bytes(self.data.test, changed)))


def decoded(images: LabelledImages) -> Tensor:
    """The bytes of all images (N, 3, H, W), decoded if they are files."""
    pixels: Tensor = images.images[torch.arange(len(images))]
    return pixels


def with_bytes(images: LabelledImages, changed: Tensor) -> LabelledImages:
    """The same labels and normalisation for other pixels, uint8 (N, 3, H, W)."""
    return LabelledImages(changed, images.labels, images.mean, images.std, classes=images.classes)


def batches(images: LabelledImages) -> DataLoader[Any]:
    """Batches in the order of the images."""
    return DataLoader(images, batch_size=TEST_BATCH_SIZE)


def all_images(images: LabelledImages) -> Tensor:
    """All images (N, 3, H, W) as the network sees them."""
    return torch.stack([image for image, _ in images.__getitems__(range(len(images)))])
