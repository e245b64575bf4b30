"""What the user gave the monitor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from aopc_monitor.heatmaps import Heatmap
from aopc_monitor.monitor.measurement import Measurement, ModelFunction
from aopc_monitor.monitor.probe import ImagesFunction, Probe
from aopc_monitor.perturbation.protocol import suggested_protocol


@dataclass(frozen=True)
class MonitorSettings:
    """The arguments of `AOPCMonitor` that tell what is measured and shown.

    Attributes:
        sources: loaders or images by the name of the probe; none for the trainer's loader.
        choices: arguments of `suggested_protocol`.
        figures: whether pictures are drawn.
        custom_scalars: whether TensorBoard gets a layout.
    """

    heatmaps: Mapping[str, Heatmap]
    num_images: int
    sources: Mapping[str, Any]
    choices: Mapping[str, Any]
    seed: int
    images_fn: ImagesFunction | None
    model_fn: ModelFunction | None
    max_overhead: float | None
    prefix: str
    on_error: str
    lerf: bool
    figures: bool
    custom_scalars: bool

    def network(self, pl_module: Any) -> nn.Module:
        """The network to look at."""
        network: nn.Module = pl_module if self.model_fn is None else self.model_fn(pl_module)
        return network

    def measurement(self, probe: Probe, **changes: Any) -> Measurement:
        """The measurement of a probe, with what is not given chosen to fit its images."""
        protocol = suggested_protocol(probe.images, **{**self.choices, **changes})
        return Measurement(probe, protocol, self.heatmaps, self.seed, self.lerf)
