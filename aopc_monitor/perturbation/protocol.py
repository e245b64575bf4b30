"""How images are perturbed: the choices that an AOPC is measured under, checked in one place."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import Any, cast

from torch import Tensor

from aopc_monitor.network.execution import Execution
from aopc_monitor.network.outputs import OutputFunction
from aopc_monitor.network.scores import Score, check_score
from aopc_monitor.perturbation.data_range import DataRange, data_range_tensors, observed_data_range
from aopc_monitor.perturbation.input_kinds import kind_of
from aopc_monitor.perturbation.regions import Grid
from aopc_monitor.perturbation.replacements import Replacement, get_replacement
from aopc_monitor.perturbation.steps import Strata
from aopc_monitor.utilities.checks import check_positive
from aopc_monitor.utilities.configured import (
    imported,
    is_class_path,
    is_path,
    made_from_path,
    plain_value,
)

# Resizing and colour jitter overshoot a little.
RANGE_SLACK = 0.1


@dataclass(frozen=True)
class PerturbationProtocol:
    """The choices that an AOPC is measured under; two compare only if `comparable` is equal.

    Attributes:
        region_size: side m of the square regions in pixels.
        steps: L, how many regions are perturbed.
        data_range: (low, high) of valid inputs as the network sees them, numbers or one per
            channel; see `normalized_data_range`.
        replacement: "uniform", "blur", "mean", "constant", "noisy_linear", or a `Replacement`.
        repeats: independent draws of a random replacement.
        sampled_steps: J, how many of the steps are evaluated for each image, one drawn from each of
            J parts of 1 ... L; all if not given.
        score: "probability", "logit", "log_probability", "sigmoid" (independent labels, or one
            number per image), or (outputs, target) -> (N,).
        execution: how forwards are carried out.
        output_fn: from what the network returns to (N, classes), where it is something else.

    Raises:
        ValueError: for a value that no images could fit.
    """

    region_size: int
    steps: int
    data_range: DataRange | None
    replacement: str | Replacement = "uniform"
    repeats: int = 1
    sampled_steps: int | None = None
    score: Score = "probability"
    execution: Execution = field(default_factory=Execution)
    output_fn: OutputFunction | None = None

    def __post_init__(self) -> None:
        for name in ("region_size", "steps", "repeats", "sampled_steps", "data_range"):
            # Numbers of numpy and lists of configuration systems fit in no checkpoint.
            object.__setattr__(self, name, plain_value(getattr(self, name)))
        if is_class_path(self.replacement):
            made = made_from_path(cast("Any", self.replacement), "replacement")
            object.__setattr__(self, "replacement", made)
        if is_path(self.score):
            object.__setattr__(self, "score", imported(str(self.score), "score"))
        check_positive("region_size", self.region_size)
        check_positive("steps", self.steps)
        check_positive("repeats", self.repeats)
        if self.sampled_steps is not None:
            check_positive("sampled_steps", self.sampled_steps)
            if self.sampled_steps > self.steps:
                raise ValueError(
                    f"sampled_steps={self.sampled_steps} is more than steps={self.steps}: take at "
                    "most as many, or None for all of them"
                )
        check_score(self.score)
        get_replacement(self.replacement)
        data_range_tensors(self.data_range)

    def grid(self, images: Tensor) -> Grid:
        """The regions of these images.

        Raises:
            ValueError: if a region is larger than the image, or the steps are more than regions.
        """
        kind = kind_of(images)
        grid = kind.regions(images, self.region_size)
        if self.steps > grid.num_regions:
            of_region, of_input = kind.sizes_text(grid)
            raise ValueError(
                f"steps={self.steps} is more than the {grid.num_regions} regions of {of_region} "
                f"{kind.unit} that {kind.name} of {of_input} have: use at most that many steps, or "
                "smaller regions"
            )
        return grid

    def comparable(self) -> PerturbationProtocol:
        """The choices that values depend on, without those that only change the cost."""
        return replace(self, execution=Execution(autocast=self.execution.autocast))

    @property
    def draws(self) -> int:
        """Evaluations per image and step: a replacement that is not random needs only one."""
        return self.repeats if get_replacement(self.replacement).is_random else 1

    @property
    def strata(self) -> Strata:
        """The parts of the curve; one step of each is evaluated."""
        return Strata(self.steps, self.sampled_steps or self.steps)

    def forwards(self, num_images: int, num_orders: int) -> int:
        """Images that go through the network: the clean ones once, the perturbed per order."""
        return num_images * (1 + num_orders * self.strata.count * self.draws)

    def range_on(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The data range as two (C, 1, ...) tensors beside `(N, C, *space)`, on the same device."""
        low, high = data_range_tensors(self.data_range, images.shape[1])
        shape = (-1, *[1] * (images.ndim - 2))
        return low.view(shape).to(images.device), high.view(shape).to(images.device)

    def warn_outside(self, images: Tensor) -> None:
        """Warn where the images themselves are not in the data range."""
        low, high = self.range_on(images)
        slack = RANGE_SLACK * (high - low)
        if ((images < low - slack) | (images > high + slack)).any():
            warnings.warn(
                f"images hold values from {float(images.min()):.4g} to {float(images.max()):.4g}, "
                f"outside data_range={self.data_range}: what regions are replaced by is then no "
                "valid input. Give the range after normalisation, see normalized_data_range",
                stacklevel=2,
            )


MOST_SUGGESTED_STEPS = 50
SUGGESTED_SAMPLED_STEPS = 4


@dataclass(frozen=True)
class ProtocolChoices:
    """What was chosen of a protocol before there are images; the rest is chosen to fit them.

    Attributes:
        region_size: side of the regions; grows with the square root of the image if not given.
        steps: half of the regions, at most 50, if not given.
        sampled_steps: how many of them are evaluated for each image, None for all; the usual number
            is lowered where there are fewer steps.
        data_range: the images' own smallest and largest value of each channel if not given.
        replacement: as in `PerturbationProtocol`, and so are the others.

    Raises:
        ValueError: for a value that no images could fit.

    Example:
        >>> import torch
        >>> protocol = ProtocolChoices(steps=8).for_images(torch.rand(8, 3, 32, 32))
        >>> protocol.region_size, protocol.steps, protocol.sampled_steps
        (4, 8, 4)
    """

    region_size: int | None = None
    steps: int | None = None
    sampled_steps: int | None = SUGGESTED_SAMPLED_STEPS
    data_range: DataRange | None = None
    replacement: str | Replacement = "uniform"
    repeats: int = 1
    score: Score = "probability"
    execution: Execution = field(default_factory=Execution)
    output_fn: OutputFunction | None = None

    def __post_init__(self) -> None:
        # What is not given is anything that passes: only what is given is checked.
        self._protocol(
            region_size=1 if self.region_size is None else self.region_size,
            steps=(self.sampled_steps or 1) if self.steps is None else self.steps,
            sampled_steps=at_most(self.steps, self.sampled_steps),
            data_range=(0.0, 1.0) if self.data_range is None else self.data_range,
        )

    def for_images(self, images: Tensor) -> PerturbationProtocol:
        """The protocol for these images (N, C, H, W): what was chosen is kept.

        Raises:
            ValueError: for a choice that does not fit the images.
        """
        kind = kind_of(images)
        region_size = self.region_size or kind.suggested_region_size(images)
        regions = kind.regions(images, region_size).num_regions
        steps = self.steps or min(max(1, regions // 2), MOST_SUGGESTED_STEPS)
        protocol = self._protocol(
            region_size=region_size,
            steps=steps,
            sampled_steps=at_most(steps, self.sampled_steps),
            data_range=observed_data_range(images) if self.data_range is None else self.data_range,
        )
        protocol.grid(images)
        protocol.warn_outside(images)
        return protocol

    def _protocol(self, **fitting: Any) -> PerturbationProtocol:
        return PerturbationProtocol(
            **fitting,
            replacement=self.replacement,
            repeats=self.repeats,
            score=self.score,
            execution=self.execution,
            output_fn=self.output_fn,
        )


def at_most(steps: int | None, sampled_steps: int | None) -> int | None:
    """The usual number of samples, but no more than there are steps."""
    if steps is None or sampled_steps != SUGGESTED_SAMPLED_STEPS:
        return sampled_steps
    return min(steps, sampled_steps) if isinstance(steps, int) else sampled_steps
