"""A few images of a probe with their heatmaps, to be looked at by people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps import with_data_range
from aopc_monitor.metrics.functional.clean_batch import CleanBatch
from aopc_monitor.monitor.consensus import stop_if_asked
from aopc_monitor.monitor.measurement import Measurement, device_of
from aopc_monitor.monitor.trainers import without_logging
from aopc_monitor.network.chunks import ChunkSizes, ChunkSizesByNetwork
from aopc_monitor.network.further_inputs import moved
from aopc_monitor.network.isolation import untouched, unwritten
from aopc_monitor.network.scores import Score, score_function
from aopc_monitor.perturbation.data_range import data_range_tensors

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

SHOWN_IMAGES = 6
MOST_WRAPPERS = 10


@dataclass(frozen=True)
class Sample:
    """A few images of a probe, always the same, as one network sees them.

    Attributes:
        pixels: (N, H, W, 3) from 0 to 1, for the eye.
        maps: (N, H, W) heatmaps by name.
        target: (N,) the explained classes.
        confidence: (N,) their probabilities; None for a network with a single output.
        num_classes: how many classes the network knows.
    """

    pixels: Tensor
    maps: Mapping[str, Tensor]
    target: Tensor
    confidence: Tensor | None
    num_classes: int

    def titles(self, names: Sequence[str] | None) -> list[str]:
        """What the network takes each image for, and with what probability."""
        if self.confidence is None:
            return [""] * len(self.target)
        classes = [names[i] if names else f"class {i}" for i in self.target.tolist()]
        pairs = zip(classes, self.confidence.tolist(), strict=True)
        return [f"{name}\n{probability:.0%}" for name, probability in pairs]


def sample_of(
    trainer: Trainer,
    pl_module: LightningModule,
    network: nn.Module,
    measurement: Measurement,
    chunks: ChunkSizesByNetwork,
) -> Sample:
    """Explain a few images, spread over the probe: data sets are often in the order of classes.

    No process asks another: each makes the same forwards.

    Args:
        trainer: the Lightning trainer.
        pl_module: its module.
        network: the network to look at.
        measurement: its probe and its heatmaps.
        chunks: images at once; smaller afterwards where memory was short.
    """
    precision, protocol = trainer.precision_plugin, measurement.protocol
    shown = measurement.probe.part(shown_rows(len(measurement.probe.images)))
    images, device = shown.images, device_of(network, pl_module)
    on_device = precision.convert_input(images.to(device))
    sizes = chunks.of(network, on_device)
    with (
        unwritten(pl_module),
        without_logging(pl_module),
        precision.forward_context(),
        untouched(network, measurement.seed),
    ):
        clean = CleanBatch.of(
            network,
            on_device,
            protocol.score,
            protocol.execution,
            sizes,
            output_fn=protocol.output_fn,
            inputs=precision.convert_input(moved(shown.inputs, device)),
        )
        maps = _maps_of(clean, measurement, sizes, lambda: stop_if_asked(trainer))
    return Sample(
        pixels_of(images, protocol.data_range),
        maps,
        clean.target.cpu(),
        _confidence_of(clean, protocol.score),
        clean.outputs.shape[1],
    )


def _maps_of(
    clean: CleanBatch,
    measurement: Measurement,
    sizes: ChunkSizes,
    before_each: Callable[[], None],
) -> dict[str, Tensor]:
    maps = {}
    for name, heatmap in measurement.heatmaps.items():
        ranged = with_data_range(heatmap, measurement.protocol.data_range)
        maps[name] = clean.heatmaps(ranged, sizes, before_each).detach().float().cpu()
    return maps


def _confidence_of(clean: CleanBatch, score: Score) -> Tensor | None:
    if score == "sigmoid":
        return clean.scores.float().cpu()
    if clean.outputs.shape[1] == 1:
        return None
    probability = score_function("probability", clean.outputs)
    return probability(clean.outputs, clean.target).float().cpu()


def shown_rows(num_images: int) -> list[int]:
    """Rows of the images of a probe that are shown.

    Example:
        >>> shown_rows(128), shown_rows(2)
        ([0, 21, 42, 64, 85, 106], [0, 1])
    """
    count = min(SHOWN_IMAGES, num_images)
    return [row * num_images // count for row in range(count)]


def pixels_of(images: Tensor, data_range: Any) -> Tensor:
    """Images as the eye sees them: the data range from dark to bright.

    Args:
        images: (N, C, H, W) as the network sees them.
        data_range: (low, high) of valid inputs, numbers or one per channel.

    Returns:
        (N, H, W, 3) from 0 to 1: in colour for three channels, else their mean in grey.

    Example:
        >>> pixels_of(torch.full((1, 1, 2, 2), 3.0), (-1.0, 7.0))[0, 0, 0]
        tensor([0.5000, 0.5000, 0.5000])
    """
    low, high = data_range_tensors(data_range, images.shape[1])
    width = torch.where(high > low, high - low, 1)  # a channel may be constant
    shown = ((images.float() - low) / width).clamp(0, 1).float()
    if images.shape[1] != 3:
        shown = shown.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    return shown.permute(0, 2, 3, 1)


def class_names(pl_module: LightningModule, source: Any, num_classes: int) -> list[str] | None:
    """Names of the classes from an attribute `classes`; None where there are none that fit.

    Args:
        pl_module: the Lightning module, which is asked first.
        source: the loader of the probe, whose data set is asked next, also inside `Subset`.
        num_classes: how many there must be.
    """
    for owner in (pl_module, *_with_what_it_wraps(source)):
        found: Any = getattr(owner, "classes", None)
        if not isinstance(found, Sequence) or isinstance(found, str):
            continue
        if len(found) == num_classes:
            return [str(name) for name in found]
    return None


def _with_what_it_wraps(source: Any) -> Iterator[Any]:
    for _ in range(MOST_WRAPPERS):
        if source is None or isinstance(source, torch.Tensor):
            return
        yield source
        source = getattr(source, "dataset", None)
