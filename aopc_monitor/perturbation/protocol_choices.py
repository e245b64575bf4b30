"""What was chosen of a protocol before there are inputs; the rest is chosen to fit them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from aopc_monitor.network.execution import Execution
from aopc_monitor.network.outputs import OutputFunction
from aopc_monitor.network.scores import Score
from aopc_monitor.network.targets import TargetChoice
from aopc_monitor.perturbation.data_range import DataRange, observed_data_range
from aopc_monitor.perturbation.input_kinds import kind_of
from aopc_monitor.perturbation.protocol import PerturbationProtocol, StepIs
from aopc_monitor.perturbation.region_map import RegionRelevance
from aopc_monitor.perturbation.replacements import Replacement, needs_data_range

MOST_SUGGESTED_STEPS = 50
SUGGESTED_SAMPLED_STEPS = 4


@dataclass(frozen=True)
class ProtocolChoices:
    """What was chosen of a protocol before there are images; the rest is chosen to fit them.

    Attributes:
        region_size: side of the regions; grows with the square root of the image if not given.
        steps: half of the regions, or as many as shares are told by, at most 50, if not given.
        sampled_steps: how many of them are evaluated for each image, None for all; the usual number
            is lowered where there are fewer steps.
        data_range: the images' own smallest and largest value of each channel if not given, and
            the replacement needs one.
        replacement: as in `PerturbationProtocol`, and so are the others.

    Raises:
        ValueError: for a value that no images could fit.

    Example:
        >>> import torch
        >>> protocol = ProtocolChoices(steps=8).for_images(torch.rand(8, 3, 32, 32))
        >>> protocol.region_size, protocol.steps, protocol.sampled_steps
        (4, 8, 4)
    """

    region_size: int | Sequence[int] | None = None
    steps: int | None = None
    sampled_steps: int | None = SUGGESTED_SAMPLED_STEPS
    data_range: DataRange | None = None
    replacement: str | Replacement | None = None
    repeats: int = 1
    score: Score = "probability"
    execution: Execution = field(default_factory=Execution)
    output_fn: OutputFunction | None = None
    regions: Any = None
    region_relevance: RegionRelevance = "mean"
    step_is: StepIs | None = None
    target: TargetChoice = None

    def __post_init__(self) -> None:
        # What is not given is anything that passes: only what is given is checked.
        self._protocol(
            region_size=self.region_size,
            steps=(self.sampled_steps or 1) if self.steps is None else self.steps,
            sampled_steps=at_most(self.steps, self.sampled_steps),
            data_range=(0.0, 1.0) if self.data_range is None else self.data_range,
        )

    def for_images(self, images: Tensor) -> PerturbationProtocol:
        """The protocol for these images (N, C, H, W): what was chosen is kept.

        Raises:
            ValueError: for a choice that does not fit the images.
        """
        kind, region_size = kind_of(images), self.region_size
        if region_size is None and self.regions is None:
            region_size = kind.suggested_region_size(images)
        protocol = self._protocol(
            region_size=region_size,
            steps=self.steps or 1,
            sampled_steps=None,
            data_range=(0.0, 1.0) if self.data_range is None else self.data_range,
        ).for_inputs(images)
        steps = self.steps or _suggested_steps(protocol, images)
        data_range = self.data_range
        if data_range is None and needs_data_range(protocol.replacer):
            data_range = observed_data_range(images)
        sampled_steps = at_most(steps, self.sampled_steps)
        protocol = replace(
            protocol, steps=steps, sampled_steps=sampled_steps, data_range=data_range
        )
        protocol.regions_of(images)
        protocol.warn_of_doubts(images)
        return protocol

    def _protocol(self, **fitting: Any) -> PerturbationProtocol:
        return PerturbationProtocol(
            **fitting,
            replacement=self.replacement,
            repeats=self.repeats,
            score=self.score,
            execution=self.execution,
            output_fn=self.output_fn,
            regions=self.regions,
            region_relevance=self.region_relevance,
            step_is=self.step_is,
            target=self.target,
        )


def at_most(steps: int | None, sampled_steps: int | None) -> int | None:
    """The usual number of samples, but no more than there are steps."""
    if steps is None or sampled_steps != SUGGESTED_SAMPLED_STEPS:
        return sampled_steps
    return min(steps, sampled_steps) if isinstance(steps, int) else sampled_steps


def _suggested_steps(protocol: PerturbationProtocol, images: Tensor) -> int:
    """Half of the regions; where a step is a share of them, which ends at all, as many as these."""
    regions = protocol.regions_of(images)
    number = regions.num_regions
    if not protocol.counts_shares(regions):
        number //= 2
    return min(max(1, number), MOST_SUGGESTED_STEPS)
