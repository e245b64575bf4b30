"""A few inputs of a probe with their heatmaps, to be looked at by people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps import with_data_range
from aopc_monitor.metrics.clean_values import confidence_of, has_classes
from aopc_monitor.metrics.functional.clean_batch import CleanBatch
from aopc_monitor.monitor.consensus import stop_if_asked
from aopc_monitor.monitor.dashboard.shown_kinds import (
    SHOWN_KINDS,
    more_of,
    shown_kind,
    shown_rows,
)
from aopc_monitor.monitor.measurement import Measurement, device_of
from aopc_monitor.monitor.probe import Probe
from aopc_monitor.monitor.trainers import without_logging
from aopc_monitor.network.chunks import ChunkSizes, ChunkSizesByNetwork
from aopc_monitor.network.further_inputs import moved
from aopc_monitor.network.isolation import untouched, unwritten
from aopc_monitor.network.scores import Score
from aopc_monitor.perturbation.protocol import PerturbationProtocol

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

MOST_WRAPPERS = 10


@dataclass(frozen=True)
class Sample:
    """A few inputs of a probe, always the same, as one network sees them.

    Attributes:
        inputs: N of them as the eye sees them; see `aopc_monitor.figures.gallery_of`.
        maps: their heatmaps by name.
        target: (N,) the explained classes; the likeliest of each where there are several.
        confidence: (N,) their probabilities; None for a network with a single output.
        num_classes: how many classes the network knows.
        kind: of the inputs, as people see them.
        more: what their picture shows beside that.
    """

    inputs: Any
    maps: Mapping[str, Any]
    target: Tensor
    confidence: Tensor | None
    num_classes: int
    kind: str = "images"
    more: Mapping[str, Any] = field(default_factory=dict)

    def titles(self, names: Sequence[str] | None) -> list[str]:
        """What the network takes each input for, and with what probability."""
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
    """Explain a few inputs, spread over the probe: data sets are often in the order of classes.

    No process asks another: each makes the same forwards.

    Args:
        trainer: the Lightning trainer.
        pl_module: its module.
        network: the network to look at.
        measurement: its probe and its heatmaps.
        chunks: images at once; smaller afterwards where memory was short.
    """
    shown = _shown(measurement.probe)
    return _joined(
        [
            _sample_of(trainer, pl_module, network, measurement, chunks, block)
            for block in shown.blocks()
        ]
    )


def _sample_of(
    trainer: Trainer,
    pl_module: LightningModule,
    network: nn.Module,
    measurement: Measurement,
    chunks: ChunkSizesByNetwork,
    shown: Probe,
) -> Sample:
    precision, protocol = trainer.precision_plugin, measurement.protocol_of(shown)
    device = device_of(network, pl_module)
    on_device = precision.convert_input(shown.images.to(device))
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
            protocol.target,
            output_fn=protocol.output_fn,
            inputs=precision.convert_input(moved(shown.inputs, device)),
        )
        maps = _maps_of(clean, measurement, sizes, lambda: stop_if_asked(trainer))
    return _sample(shown, clean, maps, protocol)


def _shown(probe: Probe) -> Probe:
    most = SHOWN_KINDS[shown_kind(probe.images)].most
    return probe.part(shown_rows(len(probe.images), most))


def _sample(
    shown: Probe, clean: CleanBatch, maps: Mapping[str, Tensor], protocol: PerturbationProtocol
) -> Sample:
    rows, image = clean.explained.likeliest(clean.scores)
    shown, kind = shown.part(image.tolist()), shown_kind(shown.images)
    if clean.explained.has_several:
        protocol = protocol.for_rows(image, shown.images)
    row, confidence = SHOWN_KINDS[kind], _confidence_of(clean, protocol.score)
    maps = {name: found[rows.cpu()] for name, found in maps.items()}
    return Sample(
        row.inputs(shown.images, protocol),
        {name: row.maps(found, shown.images, protocol) for name, found in maps.items()},
        clean.target[rows].cpu(),
        None if confidence is None else confidence[rows].float().cpu(),
        clean.outputs.shape[1],
        kind,
        more_of(shown.images, protocol),
    )


def _joined(parts: Sequence[Sample]) -> Sample:
    """Texts of several lengths; inputs of other kinds have one."""
    first = parts[0]
    if len(parts) == 1:
        return first
    confidences = [part.confidence for part in parts if part.confidence is not None]
    return Sample(
        [words for part in parts for words in part.inputs],
        {name: [found for part in parts for found in part.maps[name]] for name in first.maps},
        torch.cat([part.target for part in parts]),
        torch.cat(confidences) if confidences else None,
        first.num_classes,
        first.kind,
    )


def _maps_of(
    clean: CleanBatch,
    measurement: Measurement,
    sizes: ChunkSizes,
    before_each: Callable[[], None],
) -> dict[str, Tensor]:
    data_range = measurement.protocol.data_range
    makers = [with_data_range(heatmap, data_range) for heatmap in measurement.heatmaps.values()]
    found = clean.all_heatmaps(makers, sizes, before_each)
    maps = [one.detach().float().cpu() for one in found]
    return dict(zip(measurement.heatmaps, maps, strict=True))


def _confidence_of(clean: CleanBatch, score: Score) -> Tensor | None:
    return confidence_of(clean, score) if has_classes(clean, score) else None


def class_names(pl_module: LightningModule, source: Any, num_classes: int) -> list[str] | None:
    """Names of the classes from an attribute `classes`, or `config.id2label`.

    None where there are none that fit.

    Args:
        pl_module: the Lightning module, which is asked first.
        source: the loader of the probe, whose data set is asked next, also inside `Subset`.
        num_classes: how many there must be.
    """
    for owner in (pl_module, *_with_what_it_wraps(source)):
        for found in (getattr(owner, "classes", None), _labels_of_config(owner)):
            if not isinstance(found, Sequence) or isinstance(found, str):
                continue
            if len(found) == num_classes:
                return [str(name) for name in found]
    return None


def _labels_of_config(owner: Any) -> list[Any] | None:
    """The names that a network of the transformers package has in its config, if any."""
    labels = getattr(getattr(owner, "config", None), "id2label", None)
    return [labels[i] for i in sorted(labels)] if isinstance(labels, Mapping) else None


def _with_what_it_wraps(source: Any) -> Iterator[Any]:
    for _ in range(MOST_WRAPPERS):
        if source is None or isinstance(source, torch.Tensor):
            return
        yield source
        source = getattr(source, "dataset", None)
