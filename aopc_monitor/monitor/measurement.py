"""What is measured: a probe, its heatmaps, how it is perturbed; and that by all processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import chain
from operator import add
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps import Heatmap, check, with_data_range
from aopc_monitor.metrics.evaluation import Evaluation, evaluate, num_orders
from aopc_monitor.metrics.functional.clean_batch import CleanBatch
from aopc_monitor.monitor.consensus import stop_if_asked, together
from aopc_monitor.monitor.errors import EvaluationError, tell, text_of, warn
from aopc_monitor.monitor.probe import Probe
from aopc_monitor.monitor.shares import Place, rounds
from aopc_monitor.monitor.trainers import without_logging
from aopc_monitor.network.asked import AskedNetwork
from aopc_monitor.network.chunks import ChunkSizes, ChunkSizesByNetwork
from aopc_monitor.network.further_inputs import moved
from aopc_monitor.network.isolation import ModelModifiedError, untouched, unwritten
from aopc_monitor.network.lockstep import in_step
from aopc_monitor.network.sharded import compute_device, is_sharded
from aopc_monitor.perturbation.protocol import PerturbationProtocol
from aopc_monitor.perturbation.region_map import GivenRegions
from aopc_monitor.utilities.setting_text import setting_text

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

CHECKED_IMAGES = 4
# Forwards that a forward and a backward pass cost, roughly.
FORWARDS_PER_BACKWARD_PASS = 3

ModelFunction = Callable[[Any], nn.Module]
# By the name of the probe, as `Measurement.settings` gives them.


@dataclass(frozen=True)
class Measurement:
    """All that an evaluation needs beside the network.

    Attributes:
        probe: the images.
        protocol: how to perturb them.
        heatmaps: the heatmaps by name.
        seed: seed of ties, sampled steps and noise.
        lerf: whether the least relevant regions are also perturbed first. Not among `settings`: it
            changes no other number.
    """

    probe: Probe
    protocol: PerturbationProtocol
    heatmaps: Mapping[str, Heatmap]
    seed: int
    lerf: bool = False

    def protocol_of(self, block: Probe) -> PerturbationProtocol:
        """How to perturb a block of the probe: its own words, where these are its regions."""
        if block.words is None or not self._has_words:
            return self.protocol
        return replace(self.protocol, regions=GivenRegions(block.words))

    @property
    def _has_words(self) -> bool:
        words, regions = self.probe.words, self.protocol.regions
        return (
            words is not None
            and isinstance(regions, GivenRegions)
            and regions.numbers.shape == words.shape
        )

    @property
    def counts_shares(self) -> bool:
        """Whether a step is a share of an image's regions, and no region more."""
        return self.protocol.counts_shares(self.protocol.regions_of(self.probe.images))

    @property
    def forwards(self) -> int:
        """Images that an evaluation sends through the network."""
        orders = num_orders(len(self.heatmaps), self.lerf)
        return self.protocol.forwards(len(self.probe.images), orders)

    @property
    def cost(self) -> int:
        """What an evaluation costs in forwards, the heatmaps included: a rough figure."""
        passes = len(self.probe.images) * len(self.heatmaps)
        return self.forwards + FORWARDS_PER_BACKWARD_PASS * passes

    def settings(self) -> dict[str, Any]:
        """What two measurements must share to compare, as texts and numbers."""
        protocol, reference = self.protocol, self.probe.reference
        size, regions, relevance = (
            protocol.region_size, protocol.regions, protocol.region_relevance
        )  # fmt: skip
        return {
            "probe": self.probe.fingerprint,
            "heatmaps": [setting_text(heatmap) for heatmap in self.heatmaps.values()],
            "seed": self.seed,
            "region_size": list(size) if isinstance(size, Sequence) else size,
            "steps": protocol.steps,
            "sampled_steps": protocol.sampled_steps,
            "repeats": protocol.repeats,
            "replacement": setting_text(protocol.replacement),
            "score": setting_text(protocol.score),
            "data_range": setting_text(protocol.data_range),
            # None where checkpoints of earlier versions, too, have nothing.
            # Words are part of the probe.
            "regions": None if regions is None or self._has_words else setting_text(regions),
            "region_relevance": None if relevance == "mean" else relevance,
            "step_is": protocol.step_is,
            "target": None if protocol.target is None else setting_text(protocol.target),
            # What it predicts, and not what it is: that compares of any callable.
            "reference": None if reference is None else reference.fingerprint,
        }


def evaluate_on_all_processes(
    trainer: Trainer,
    pl_module: LightningModule,
    network_of: ModelFunction,
    measurements: Mapping[str, Measurement],
    chunks: ChunkSizesByNetwork,
) -> dict[str, Evaluation]:
    """Evaluate probes, split over the processes; the values do not depend on their number.

    Args:
        trainer: the Lightning trainer.
        pl_module: its module.
        network_of: from the module to the network to look at.
        measurements: what to measure, by the name of the probe.
        chunks: images at once; smaller afterwards where memory was short.

    Returns:
        The same on every process.

    Raises:
        EvaluationError: on every process, if the evaluation failed on any.
    """

    def work() -> dict[str, Evaluation]:
        network = network_of(pl_module)
        with unwritten(pl_module), without_logging(pl_module), in_step(pl_module):
            return {
                name: _own_share(trainer, pl_module, network, measurement, chunks)
                for name, measurement in measurements.items()
            }

    own = together(trainer, work)
    vectors = [evaluation.as_vector() for evaluation in own.values()]
    total = trainer.strategy.reduce(torch.cat(vectors), reduce_op="sum")
    parts = total.split([len(vector) for vector in vectors])
    return {
        name: evaluation.with_vector(part)
        for (name, evaluation), part in zip(own.items(), parts, strict=True)
    }


def _own_share(
    trainer: Trainer,
    pl_module: LightningModule,
    network: nn.Module,
    measurement: Measurement,
    chunks: ChunkSizesByNetwork,
) -> Evaluation:
    probe, precision = measurement.probe, trainer.precision_plugin
    device = device_of(network, pl_module)
    parts: list[Evaluation] = []
    for block, counts in rounds(probe, Place.of(trainer), is_sharded(network)):
        on_device = precision.convert_input(block.images.to(device))
        with precision.forward_context():
            found = evaluate(
                network,
                on_device,
                block.labels,
                measurement.heatmaps,
                measurement.protocol_of(block),
                measurement.seed,
                chunks.of(network, on_device),
                before_each=lambda: stop_if_asked(trainer),
                lerf=measurement.lerf,
                inputs=precision.convert_input(moved(block.inputs, device)),
                reference=block.reference,
            )
        # A process without images still has to know which sums there are.
        parts.append(found if counts else found.emptied())
    return reduce(add, parts)


def device_of(network: nn.Module, pl_module: LightningModule) -> torch.device:
    """The device of a part that `model_fn` chose; that of the whole if it hides its tensors."""
    if any(True for _ in chain(network.parameters(), network.buffers())):
        return compute_device(network)
    device: torch.device = pl_module.device
    return device


def report_heatmaps(
    trainer: Trainer,
    pl_module: LightningModule,
    network_of: ModelFunction,
    measurement: Measurement,
) -> str:
    """Check each heatmap on the first images of a probe, and say in a line how it went.

    Returns:
        Why they could not be checked, for the caller to tell unless the first evaluation fails, too
        and tells the same; else nothing.

    Raises:
        EvaluationError: on every process, if the parameters changed on any.
    """

    def work() -> tuple[str, bool | None]:
        with unwritten(pl_module), in_step(pl_module):
            try:
                return _checked(trainer, pl_module, network_of(pl_module), measurement)
            except (ModelModifiedError, EvaluationError):  # the latter to stop
                raise
            except Exception as error:  # whatever a user's model or heatmap may raise
                return f"heatmaps could not be checked: {text_of(error)}", None

    line, is_fine = together(trainer, work)
    if is_fine is None:
        return line
    if trainer.is_global_zero:
        (tell if is_fine else warn)(line)
    return ""


def _checked(
    trainer: Trainer, pl_module: LightningModule, network: nn.Module, measurement: Measurement
) -> tuple[str, bool]:
    precision, data_range = trainer.precision_plugin, measurement.protocol.data_range
    few = measurement.probe.few(CHECKED_IMAGES)
    device = device_of(network, pl_module)
    images = precision.convert_input(few.images.to(device))
    inputs = precision.convert_input(moved(few.inputs, device))
    protocol = measurement.protocol
    with without_logging(pl_module), precision.forward_context():
        with untouched(network, measurement.seed):
            chunks = ChunkSizes.of(protocol.execution.chunk_size, images)
            clean = CleanBatch.of(
                network, images, protocol.score, protocol.execution, chunks, protocol.target,
                output_fn=protocol.output_fn, inputs=inputs,
            )  # fmt: skip
        reports = []
        for name, made in measurement.heatmaps.items():
            stop_if_asked(trainer)
            ranged = with_data_range(made, data_range)
            asked, explained, target = _for_check(clean, made)
            reports.append(check(asked, explained, ranged, target, name))
    return "; ".join(r.line() for r in reports), all(r.is_fine for r in reports)


def _for_check(clean: CleanBatch, heatmap: Heatmap) -> tuple[nn.Module, Tensor, Tensor]:
    """A few explanations; one of them where rows go with images, and a heatmap asks for others."""
    network, images, target = clean.forward.model, clean.images, clean.target
    needs_rows = isinstance(network, AskedNetwork) and network.needs_rows
    if not needs_rows or getattr(heatmap, "keeps_rows", False):
        count = min(len(images), CHECKED_IMAGES)
    else:
        count = 1
    asked = network.of(0, count) if isinstance(network, AskedNetwork) else network
    return asked, images[:count], target[:count]
