"""Fig. 5 of Samek et al. 2017: which heatmap shows what matters and no more?

python -m recipes.heatmap_complexity                      # digits, nothing is downloaded
python -m recipes.heatmap_complexity --dataset cifar10    # downloads CIFAR-10
python -m recipes.heatmap_complexity --image-folder DIR --weights FILE --areas FILE

A run that is started again goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps import Heatmap
from aopc_monitor.metrics import file_size, shannon_entropy
from recipes.heatmap_complexity.report import MEASURES, Report, mean_areas, shared_names
from recipes.shared.arguments import command_line
from recipes.shared.freed_memory import keep_all_freed_memory
from recipes.shared.heatmap_blocks import Blocks, measured
from recipes.shared.heatmap_study import (
    REFERENCE,
    Study,
    add_study_arguments,
    predicted_classes,
    study_options,
)

BLOCK_SIZE = 20
PART = "complexity"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line to settings."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.heatmap_complexity",
        description="File size and entropy of the heatmaps of the test images.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_study_arguments(parser, num_images=1000)
    parser.add_argument("--reference", default=REFERENCE, help="what the others are compared with")
    parser.add_argument(
        "--areas", type=Path, help="areas.csv of compare_heatmaps for the same network"
    )
    options = study_options(parser, arguments)
    if options.reference not in options.heatmaps:
        parser.error(f"--reference {options.reference} is not among --heatmaps: add it there")
    return options


def main(arguments: Sequence[str] | None = None) -> Report | None:
    """Train or read the network, measure, report; None on other processes than the first."""
    options = parse_arguments(arguments)
    areas = mean_areas(options.areas) if options.areas else None
    if areas is not None:
        shared_names(options.heatmaps, areas)  # before the work, which would be in vain
    study = Study.of(options, "heatmap_complexity")
    blocks = Blocks(study.data, study.rows, BLOCK_SIZE)
    folder = study.folder / "blocks"
    measurement = measured(study.network, Complexity(study.heatmaps), blocks, folder, options)
    if measurement is None:
        return None
    found = measurement.collected(PART)
    by_heatmap = dict(zip(study.heatmaps, found["values"].unbind(dim=1), strict=True))
    report = Report(
        f"{study.title}, {options.network}",
        {
            name: dict(zip(MEASURES, values.unbind(dim=1), strict=True))
            for name, values in by_heatmap.items()
        },
        options.reference,
        study.images_of(found["predicted"]),
        study.settings(options, found["predicted"]),
        command_line("recipes.heatmap_complexity", arguments),
        areas,
    )
    report.write(study.folder)
    print(f"\n{report.table('png')}\n")
    print(f"report   {study.folder / 'report.md'}")
    return report


@dataclass(frozen=True)
class Complexity:
    """Measures the heatmaps of the predicted class.

    Attributes:
        heatmaps: by name.
    """

    heatmaps: Mapping[str, Heatmap]

    @property
    def parts(self) -> dict[str, str]:
        """A single part."""
        return {PART: str(self.heatmaps)}

    def __call__(
        self, network: nn.Module, images: Tensor, parts: Sequence[str]
    ) -> dict[str, dict[str, Tensor]]:
        """Measure a block of images (N, 3, H, W).

        Returns:
            Of the single part "values" (N, heatmaps, 3), in the order of `MEASURES`, and
            "predicted" (N,), the explained classes.
        """
        predicted = predicted_classes(network, images)
        values = []
        for make in self.heatmaps.values():
            relevance = make(network, images, predicted)
            sizes = [file_size(relevance, "png"), file_size(relevance, "jpeg")]
            values.append(torch.stack([*sizes, shannon_entropy(relevance)], dim=1))
        return {PART: {"values": torch.stack(values, dim=1).cpu(), "predicted": predicted.cpu()}}


if __name__ == "__main__":
    keep_all_freed_memory()
    main()
