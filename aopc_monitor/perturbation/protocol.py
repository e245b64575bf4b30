"""How inputs are perturbed: the choices that an AOPC is measured under, checked in one place."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from aopc_monitor.network.execution import Execution
from aopc_monitor.network.outputs import OutputFunction
from aopc_monitor.network.scores import Score, check_score
from aopc_monitor.network.targets import TargetChoice, check_target_choice
from aopc_monitor.perturbation.axis_order import axis_doubt
from aopc_monitor.perturbation.data_range import DataRange, data_range_tensors
from aopc_monitor.perturbation.input_kinds import kind_of, regions_of
from aopc_monitor.perturbation.region_map import (
    GivenRegions,
    RegionFunction,
    RegionRelevance,
    check_relevance_is,
    checked_region_size,
    given_regions,
)
from aopc_monitor.perturbation.regions import Regions
from aopc_monitor.perturbation.replacements import (
    Replacement,
    check_suits,
    get_replacement,
    needs_data_range,
)
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
# What inputs of floating-point numbers are replaced by.
USUAL = "uniform"
StepIs = Literal["region", "share"]


@dataclass(frozen=True)
class PerturbationProtocol:
    """The choices that an AOPC is measured under; two compare only if `comparable` is equal.

    Attributes:
        region_size: side m of the regions, a number or one per dimension: pixels of an image, time
            steps of a series. None for regions of your own, and for tables.
        steps: L, how many regions are perturbed; the number of shares if a step is one.
        data_range: (low, high) of valid inputs as the network sees them, numbers or one per
            channel (of a table per feature); see `normalized_data_range`. None where the
            replacement needs none.
        replacement: "uniform", "blur", "mean", "constant", "noisy_linear", "linear", "zero",
            "left_out", or a `Replacement`; what the kind of input usually has if not given, "zero"
            for texts, and uniform for all that hold floating-point numbers.
        repeats: independent draws of a random replacement.
        sampled_steps: J, how many of the steps are evaluated for each image, one drawn from each of
            J parts of 1 ... L; all if not given.
        score: "probability", "logit", "log_probability", "sigmoid" (independent labels, or one
            number per image), "value" (of a regression), "segmentation" (mean logit of a class over
            the pixels that have it), or (outputs, target) -> (N,).
        execution: how forwards are carried out.
        output_fn: from what the network returns to (N, classes), where it is something else.
        regions: regions of your own: whole numbers `(*space)` for all inputs or `(N, *space)`, -1
            where nothing is perturbed, or a function from inputs to these.
        region_relevance: of a region of your own, the "mean" or the "sum" of the heatmap over it.
        step_is: "region": step k perturbs k regions; "share": step k of L perturbs
            round(k / L * R_i) of the R_i regions of an input. If not given, "share" where each
            input has regions of its own, else "region".
        target: which classes are explained, where the images come with none; see `chosen_target`.

    Raises:
        ValueError: for a value that no inputs could fit.
    """

    region_size: int | Sequence[int] | None
    steps: int
    data_range: DataRange | None
    replacement: str | Replacement | None = None
    repeats: int = 1
    sampled_steps: int | None = None
    score: Score = "probability"
    execution: Execution = field(default_factory=Execution)
    output_fn: OutputFunction | None = None
    regions: RegionFunction | GivenRegions | None = field(default=None, repr=False)
    region_relevance: RegionRelevance = field(default="mean", repr=False)
    step_is: StepIs | None = field(default=None, repr=False)
    target: TargetChoice = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("region_size", "steps", "repeats", "sampled_steps", "data_range"):
            # Numbers of numpy and lists of configuration systems fit in no checkpoint.
            object.__setattr__(self, name, plain_value(getattr(self, name)))
        object.__setattr__(self, "regions", given_regions(self.regions))
        if is_class_path(self.replacement):
            made = made_from_path(cast("Any", self.replacement), "replacement")
            object.__setattr__(self, "replacement", made)
        if is_path(self.score):
            object.__setattr__(self, "score", imported(str(self.score), "score"))
        self._check_regions()
        check_positive("steps", self.steps)
        check_positive("repeats", self.repeats)
        if self.sampled_steps is not None:
            check_positive("sampled_steps", self.sampled_steps)
            if self.sampled_steps > self.steps:
                raise ValueError(
                    f"sampled_steps={self.sampled_steps} is more than steps={self.steps}: take at "
                    "most as many, or None for all of them"
                )
        if is_path(self.target):
            object.__setattr__(self, "target", imported(str(self.target), "target"))
        check_score(self.score)
        check_target_choice(self.target)
        # What the kind of input usually has is known with the inputs.
        if self.data_range is not None or self.replacement is not None:
            self._check_range()

    def _check_regions(self) -> None:
        size = checked_region_size(self.region_size, self.regions)
        object.__setattr__(self, "region_size", size)
        check_relevance_is(self.region_relevance)
        if self.step_is not in (None, *get_args(StepIs)):
            raise ValueError(
                f"step_is={self.step_is!r} is unknown: choose one of {', '.join(get_args(StepIs))}"
            )

    def _check_range(self) -> None:
        if needs_data_range(self.replacer) or self.data_range is not None:
            data_range_tensors(self.data_range)

    def __repr__(self) -> str:
        # What an earlier version did not have is told where it is used alone: the text tells
        # whether two measurements compare, those of that version as well.
        told = [one for one in fields(self) if one.repr or getattr(self, one.name) != one.default]
        values = ", ".join(f"{one.name}={getattr(self, one.name)!r}" for one in told)
        return f"{type(self).__qualname__}({values})"

    def for_inputs(self, inputs: Tensor, regions: Any = None) -> PerturbationProtocol:
        """The protocol with what the kind of these inputs usually has, checked against it.

        Args:
            inputs: what will be perturbed.
            regions: a map of regions of these inputs, in the place of those of the protocol.

        Raises:
            ValueError: if the replacement is for another kind, or needs a data range that is
                missing.
        """
        kind, changes = kind_of(inputs), dict[str, Any]()
        if self.replacement is None:
            changes["replacement"] = kind.default_replacement
        if regions is not None:
            changes |= {"regions": regions, "region_size": None}
        protocol = replace(self, **changes) if changes else self
        check_suits(protocol.replacer, kind)
        protocol._check_range()
        return protocol

    def for_rows(self, rows: Tensor, inputs: Tensor) -> PerturbationProtocol:
        """The protocol of a batch `inputs` (M, ...) that is made of these rows (M,) of another."""
        given = self.regions
        space = kind_of(inputs).locations(inputs)[1:]
        if not isinstance(given, GivenRegions) or given.numbers.shape == space:
            return self
        return replace(self, regions=GivenRegions(given.numbers[rows.to(given.numbers.device)]))

    def regions_of(self, inputs: Tensor) -> Regions:
        """The regions of these inputs.

        Raises:
            ValueError: if regions do not fit the inputs, or the steps are more than regions.
        """
        kind = kind_of(inputs)
        regions = regions_of(inputs, self.region_size, self.regions, self.region_relevance)
        numbers = regions.numbers
        fewest = regions.num_regions if numbers is None else int(numbers.min())
        if self.steps <= fewest or self.counts_shares(regions):
            return regions
        if numbers is None:
            other = 'step_is="share"' if self.region_size is None else "smaller regions"
            raise ValueError(
                f"steps={self.steps} is more than the {fewest} {regions.text(unit=kind.unit)} that "
                f"{kind.name} of {kind.extent_text(inputs)} have: use at most that many steps, or "
                f"{other}"
            )
        raise ValueError(
            f"steps={self.steps} is more than the {fewest} regions of the shortest of these "
            f'{kind.name}: use at most that many, or step_is="share", under which the last step '
            "perturbs all regions of each"
        )

    def counts_shares(self, regions: Regions) -> bool:
        """Whether a step is a share of an input's regions, and not one region more."""
        if self.step_is is None:
            return regions.numbers is not None
        return self.step_is == "share"

    def perturbed_regions(self, steps: Tensor, regions: Regions) -> Tensor:
        """How many regions are perturbed at steps (N * draws, J) of the images and their draws.

        Example:
            >>> protocol = PerturbationProtocol(None, 4, (0.0, 1.0), step_is="share")
            >>> steps = torch.tensor([[1, 2, 3, 4]])
            >>> protocol.perturbed_regions(steps, protocol.regions_of(torch.rand(1, 10)))
            tensor([[ 3,  5,  8, 10]])
        """
        if not self.counts_shares(regions):
            return steps
        numbers = regions.numbers
        if numbers is None:
            numbers = torch.full((len(steps) // self.draws,), regions.num_regions)
        of_rows = numbers.to(steps.device).repeat_interleave(self.draws)[:, None]
        # Rounded as whole numbers, a half upwards: no rounding error moves a step.
        return (2 * steps * of_rows + self.steps) // (2 * self.steps)

    def comparable(self) -> PerturbationProtocol:
        """The choices that values depend on, without those that only change the cost."""
        # The usual replacement by its name, as measurements of earlier versions have it.
        usual = None if self.data_range is None else USUAL
        execution = _Precision(autocast=self.execution.autocast)
        return replace(self, execution=execution, replacement=self.replacement or usual)

    @property
    def replacer(self) -> Replacement:
        """What makes replacements; the usual one of dense inputs where none was chosen yet."""
        return get_replacement(self.replacement or USUAL)

    @property
    def draws(self) -> int:
        """Evaluations per image and step: a replacement that is not random needs only one."""
        return self.repeats if self.replacer.is_random else 1

    @property
    def strata(self) -> Strata:
        """The parts of the curve; one step of each is evaluated."""
        return Strata(self.steps, self.sampled_steps or self.steps)

    def forwards(self, num_images: int, num_orders: int) -> int:
        """Images that go through the network: the clean ones once, the perturbed per order."""
        return num_images * (1 + num_orders * self.strata.count * self.draws)

    def range_on(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The data range as two (C, 1, ...) tensors beside `(N, C, *space)`, on the same device.

        NaN where there is none, since the replacement needs none.
        """
        if self.data_range is None and not needs_data_range(self.replacer):
            nothing = images.new_full((), torch.nan, dtype=torch.float32)
            return nothing, nothing
        kind = kind_of(images)
        each = "channel" if kind.has_channels else "feature"
        low, high = data_range_tensors(self.data_range, images.shape[1], kind.name, each)
        shape = (-1, *[1] * (images.ndim - 2))
        return low.view(shape).to(images.device), high.view(shape).to(images.device)

    def warn_of_doubts(self, images: Tensor) -> None:
        """Warn where the images are not in the data range, or their dimensions look turned."""
        doubt = axis_doubt(images)
        if doubt is not None:
            warnings.warn(doubt, stacklevel=2)
        if self.data_range is None:
            return
        low, high = self.range_on(images)
        slack = RANGE_SLACK * (high - low)
        if ((images < low - slack) | (images > high + slack)).any():
            warnings.warn(
                f"images hold values from {float(images.min()):.4g} to {float(images.max()):.4g}, "
                f"outside data_range={self.data_range}: what regions are replaced by is then no "
                "valid input. Give the range after normalisation, see normalized_data_range",
                stacklevel=2,
            )


@dataclass(frozen=True, repr=False)
class _Precision(Execution):
    """The one choice of an execution that values depend on, under the text of earlier versions."""

    def __repr__(self) -> str:
        # Sums that were saved with this text add up with those of today.
        chosen = f"chunk_size=None, channels_last=None, autocast={self.autocast}, compiled=False"
        return f"Execution({chosen})"
