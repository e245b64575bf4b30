"""AOPC as a share of what any order of regions could do, on few images and coarse regions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from aopc_monitor import area_over_perturbation_curve
from aopc_monitor.heatmaps import Heatmap, with_data_range
from aopc_monitor.metrics import aopc_bounds
from aopc_monitor.network import untouched
from aopc_monitor.perturbation import DataRange

# The search for bounds costs about N * R^2 forwards for R regions: 16 regions, half of them
# perturbed, are what a training run can bear.
REGIONS_PER_SIDE = 4


@dataclass(frozen=True)
class NormalizedAOPC:
    """Normalized AOPC (Edin et al. 2025) of several heatmaps.

    Regions are a quarter of the image wide, half of them are perturbed by their mean colour, and
    the bounds are found by greedy search: one protocol for the area and for its bounds, but another
    one than that of the monitor.

    Attributes:
        images: (N, C, H, W) as the network sees them.
        heatmaps: the heatmaps by name.
        data_range: (low, high) of valid inputs.
    """

    images: Tensor
    heatmaps: Mapping[str, Heatmap]
    data_range: DataRange

    def of(self, network: nn.Module) -> dict[str, float]:
        """Means over the images that any order changes.

        Returns:
            For each heatmap `normalized/HEATMAP`, its AOPC from 0 (the least that was found) to 1
            (the greatest that was found; the search is greedy, so that a value may lie a little
            outside), and `normalized/HEATMAP_srg`, that minus the same with the least relevant
            regions first.
        """
        size = min(self.images.shape[2:]) // REGIONS_PER_SIDE
        regions = (self.images.shape[2] // size) * (self.images.shape[3] // size)
        choices: dict[str, Any] = {
            "region_size": size,
            "steps": regions // 2,
            "data_range": self.data_range,
            "replacement": "mean",
        }
        bounds = aopc_bounds(network, self.images, **choices)
        found = {}
        for name, heatmap in self.heatmaps.items():
            relevance = self._relevance(network, heatmap)
            shares = [
                bounds.normalized(
                    area_over_perturbation_curve(
                        network, self.images, relevance, order=order, **choices
                    ).per_image
                )
                for order in ("morf", "lerf")
            ]
            found[f"normalized/{name}"] = float(shares[0].nanmean())
            found[f"normalized/{name}_srg"] = float((shares[0] - shares[1]).nanmean())
        return found

    def _relevance(self, network: nn.Module, heatmap: Heatmap) -> Tensor:
        make = with_data_range(heatmap, self.data_range)
        with untouched(network):
            images = self.images.clone()
            with torch.no_grad():
                target = network(images).argmax(dim=1)
            return make(network, images, target)


def normalized_on(
    trainer: pl.Trainer, pl_module: pl.LightningModule, normalized: NormalizedAOPC | None
) -> dict[str, float]:
    """Normalized AOPC of a trainer's module in the trainer's precision; nothing for None."""
    if normalized is None:
        return {}
    images = trainer.precision_plugin.convert_input(normalized.images.to(pl_module.device))
    there = replace(normalized, images=images)
    with trainer.precision_plugin.forward_context():
        return there.of(pl_module)
