"""Several removal measures of one batch at once: the function beneath the removal metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from aopc_monitor.metrics.functional.opening import opened
from aopc_monitor.metrics.functional.removal import (
    RemovalMeasure,
    RemovalResult,
    results_of_removals,
)
from aopc_monitor.network.chunks import ChunkSizesByNetwork
from aopc_monitor.network.execution import Execution, checked_execution
from aopc_monitor.network.further_inputs import Inputs
from aopc_monitor.network.targets import Target
from aopc_monitor.perturbation.input_batch import InputBatch
from aopc_monitor.perturbation.input_kinds import kind_of
from aopc_monitor.perturbation.protocol import PerturbationProtocol
from aopc_monitor.utilities.checks import check_network
from aopc_monitor.utilities.randomness import generator_for

if TYPE_CHECKING:
    from aopc_monitor.heatmaps import Heatmap

# How to perturb, of what a protocol takes; steps there are none.
CHOICES = (
    "region_size", "data_range", "replacement", "repeats", "regions", "region_relevance", "score",
    "output_fn", "target",
)  # fmt: skip


def removal_measures(
    model: nn.Module,
    images: Tensor | Mapping[str, Any],
    heatmaps: Tensor,
    measures: Sequence[RemovalMeasure],
    *,
    target: Target = None,
    inputs: Any = (),
    execution: Execution | None = None,
    generator: torch.Generator | None = None,
    **choices: Any,
) -> list[RemovalResult]:
    """Several removal measures of one batch, which share forwards where they remove the same.

    Args:
        model: network that returns (N, classes), or an object with that as `.logits`; left as it
            was.
        images: (N, C, H, W) floating point, as the network sees them; or another kind of input:
            series (N, C, L), volumes (N, C, D, H, W), tables (N, F), token ids (N, T), or a mapping
            with these as `input_ids`.
        heatmaps: (N, H, W), one relevance per pixel, on the images' device.
        measures: what to measure.
        target: as in `area_over_perturbation_curve`, and so are inputs and execution.
        inputs: what `forward` takes after the images.
        execution: how forwards are carried out.
        generator: source of ties, random removals and noise; one of its own, always the same for
            the same images, if not given.
        choices: how to perturb: `region_size`, `data_range`, `replacement`, `repeats`, `regions`,
            `region_relevance`, `score` and `output_fn` as in `area_over_perturbation_curve`. If no
            replacement is given, that of the first measure, and "zero" for texts.

    Returns:
        One result for each measure.

    Raises:
        TypeError: for images, heatmaps, outputs or choices that there are not.
        ValueError: for a wrong shape, device or value; the message names the argument.

    Example:
        >>> from aopc_monitor.metrics import DeletionMeasure, InsertionMeasure
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        >>> images = torch.rand(5, 1, 8, 8)
        >>> both = [DeletionMeasure(steps=4), InsertionMeasure(steps=4)]
        >>> results = removal_measures(model, images, images[:, 0], both, region_size=2)
        >>> [result.per_image.shape for result in results], results[0].forwards
        ([torch.Size([5]), torch.Size([5])], 40)
    """
    protocol = removal_protocol(checked_execution(execution), **choices)
    check_network(model)
    if not measures:
        raise ValueError("measures is empty: give at least one, such as DeletionMeasure()")
    batch = InputBatch.of(images, inputs)
    protocol = for_batch(protocol, measures[0], batch)
    protocol.warn_of_doubts(batch.images)
    sizes = ChunkSizesByNetwork(protocol.execution.chunk_size)
    given = (heatmaps, measures, protocol, 0, sizes, target, batch.inputs)
    return removals_of_batch(model, batch.images, *given, generator=generator)


def removal_protocol(execution: Execution, **choices: Any) -> PerturbationProtocol:
    """How to perturb, checked; the protocol's steps are not used.

    Raises:
        TypeError: for a choice that there is not.
    """
    for name in choices:
        if name not in CHOICES:
            raise TypeError(
                f"{name}={choices[name]!r} is unknown here: choose of {', '.join(CHOICES)}"
            )
    given = {"region_size": None, "data_range": None, **choices}
    return PerturbationProtocol(steps=1, step_is="region", execution=execution, **given)


def for_batch(
    protocol: PerturbationProtocol, measure: RemovalMeasure, batch: InputBatch, regions: Any = None
) -> PerturbationProtocol:
    """The protocol for a batch, with the measure's own replacement where none was chosen."""
    if protocol.replacement is None and kind_of(batch.images).is_dense:
        protocol = replace(protocol, replacement=measure.replacement)
    return batch.protocol(protocol, regions)


def removals_of_batch(
    model: nn.Module,
    images: Tensor,
    heatmap: Heatmap | Tensor,
    measures: Sequence[RemovalMeasure],
    protocol: PerturbationProtocol,
    seed: int,
    sizes: ChunkSizesByNetwork,
    target: Target = None,
    inputs: Inputs = (),
    generator: torch.Generator | None = None,
) -> list[RemovalResult]:
    """Explain a batch, and measure; see `batch_results`, which does so for AOPC."""
    protocol = protocol.for_inputs(images)
    with opened(
        model,
        images,
        protocol.score,
        protocol.execution,
        sizes,
        target=protocol.target if target is None else target,
        output_fn=protocol.output_fn,
        inputs=inputs,
        seed=seed,
    ) as (clean, images, chunks):
        if callable(heatmap):
            maps = clean.heatmaps(heatmap, chunks)
        else:
            maps = clean.explained.heatmaps_of(heatmap, images)
        generator = generator or generator_for(images, seed)
        return results_of_removals(clean, protocol, [maps], measures, generator, chunks)[0]
