"""AOPC of a data set, from as many of its images as a wanted precision takes; with its error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import chain, repeat
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps import Heatmap, with_data_range
from aopc_monitor.heatmaps.table import get_seeded
from aopc_monitor.metrics.collected_areas import (
    FEWEST_IMAGES,
    BatchKey,
    CollectedAreas,
    Quantity,
    quantity,
)
from aopc_monitor.metrics.functional.aopc import batch_results
from aopc_monitor.metrics.functional.aopc_result import AOPCResult
from aopc_monitor.metrics.moved_arguments import telling_what_moved
from aopc_monitor.metrics.shared_rounds import rounds_of
from aopc_monitor.network.chunks import ChunkSizesByNetwork
from aopc_monitor.network.execution import Execution, checked_execution
from aopc_monitor.network.outputs import OutputFunction
from aopc_monitor.network.scores import Score
from aopc_monitor.network.sharded import compute_device
from aopc_monitor.perturbation.data_range import DataRange
from aopc_monitor.perturbation.input_batch import InputBatch
from aopc_monitor.perturbation.protocol import PerturbationProtocol, StepIs
from aopc_monitor.perturbation.protocol_choices import SUGGESTED_SAMPLED_STEPS, at_most
from aopc_monitor.perturbation.region_map import RegionRelevance
from aopc_monitor.perturbation.regions import Order
from aopc_monitor.perturbation.replacements import Replacement
from aopc_monitor.utilities.checks import check_network, checked_seed
from aopc_monitor.utilities.setting_text import setting_text
from aopc_monitor.utilities.statistics import MeanAndError


@dataclass(frozen=True, eq=False)
class AOPCEstimate:
    """AOPC over images of a data set, with its control and its error.

    Attributes:
        areas: by batch the area of each image, (2, n): of the heatmap, and of the random order
            under the same noise; (1, n) without the control. On the CPU.
        forwards: images that went through the network.
        settings: a text that is the same for estimates that compare.
        target_sem: the standard error that was asked for, or None.
        reached: whether it was reached before the images ended; None if none was asked for.
    """

    areas: Mapping[BatchKey, Tensor]
    forwards: int
    settings: str
    target_sem: float | None = None
    reached: bool | None = None

    @property
    def aopc(self) -> MeanAndError:
        """AOPC (eq. 12): mean over images, its standard error, and `z`."""
        return MeanAndError.of(self.per_image("aopc"))

    @property
    def gain(self) -> MeanAndError:
        """AOPC minus that of the random order, image by image.

        Raises:
            ValueError: if it was measured without its control.
        """
        return MeanAndError.of(self.per_image("gain"))

    @property
    def num_images(self) -> int:
        """Images looked at."""
        return sum(areas.shape[1] for areas in self.areas.values())

    def per_image(self, of: Quantity = "aopc") -> Tensor:
        """(N,) "aopc" or "gain" of each image, in the order in which they were looked at."""
        return torch.cat([quantity(areas, of) for areas in self.areas.values()])

    def __str__(self) -> str:
        has_control = all(len(areas) == 2 for areas in self.areas.values())
        gain = f", gain {self.gain} (z = {self.gain.z:.1f})" if has_control else ""
        ending = {
            None: "",
            True: f"; a standard error of {self.target_sem} was reached",
            False: self._short_of_target(),
        }[self.reached]
        return (
            f"AOPC {self.aopc}{gain}, of {self.num_images:,} images in {self.forwards:,} forwards"
            f"{ending}"
        )

    def _short_of_target(self) -> str:
        if self.num_images < FEWEST_IMAGES:
            return f"; too few images to tell a standard error, which takes {FEWEST_IMAGES}"
        return f"; the images ended before a standard error of {self.target_sem}"


def difference(a: AOPCEstimate, b: AOPCEstimate, of: Quantity = "aopc") -> MeanAndError:
    """How much larger `a` is than `b`, from the differences of the same images.

    Its error is much smaller than those of `a` and `b`: what the images, the sampled steps and the
    noise have to do with the size of an AOPC is the same in both.

    Args:
        a: an estimate.
        b: one of the same batches and settings, of another heatmap or network.
        of: "aopc", or "gain" for the differences of gains.

    Returns:
        The mean over the images that both have looked at, its standard error, and `z`.

    Raises:
        ValueError: if their settings differ, or they have no batch in common.

    Example:
        >>> from torch import nn
        >>> from aopc_monitor import estimate_aopc
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
        >>> batches = [torch.rand(64, 3, 16, 16)]
        >>> settings = {"region_size": 4, "steps": 8, "data_range": (0.0, 1.0)}
        >>> before = estimate_aopc(model, batches, **settings)
        >>> _ = model[1].weight.data.mul_(1.1)  # as training goes on
        >>> after = estimate_aopc(model, batches, **settings)
        >>> difference(after, before).sem < after.aopc.sem / 2
        True
    """
    if a.settings != b.settings:
        raise ValueError(
            "a and b were measured under other settings, so that their difference means nothing: "
            f"{a.settings}; {b.settings}"
        )
    common = [key for key in a.areas if key in b.areas]
    if not common:
        raise ValueError(
            f"a ({a.num_images} images) and b ({b.num_images} images) have no batch in common: "
            "measure both on the same batches in the same order, without shuffling"
        )
    return MeanAndError.of(
        torch.cat([quantity(a.areas[key], of) - quantity(b.areas[key], of) for key in common])
    )


@telling_what_moved
def estimate_aopc(
    model: nn.Module,
    batches: Iterable[Any],
    heatmap: str | Heatmap = "lrp",
    *,
    region_size: int | Sequence[int] | None = None,
    steps: int,
    data_range: DataRange | None = None,
    sampled_steps: int | None = SUGGESTED_SAMPLED_STEPS,
    target_sem: float | None = None,
    sem_of: Quantity = "aopc",
    control: bool = True,
    seed: int = 0,
    replacement: str | Replacement | None = None,
    repeats: int = 1,
    regions: Any = None,
    region_relevance: RegionRelevance = "mean",
    step_is: StepIs | None = None,
    score: Score = "probability",
    output_fn: OutputFunction | None = None,
    execution: Execution | None = None,
) -> AOPCEstimate:
    """AOPC of the images of a loader, with its random control; of no more than precision takes.

    Ties, sampled steps and noise depend on the seed and on the batch alone. So two estimates of the
    same batches, of another heatmap or at another checkpoint, differ by what is to be compared
    and not by chance: `difference` tells by how much.

    If torch's distributed package is initialised, each process gives batches of its own, and all
    get the estimate over all of them; all call this function. Processes that hold parts of the same
    layers (tensor parallel) give the same batches, which count once.

    Args:
        model: network that returns (N, classes); left as it was.
        batches: batches of images (N, C, H, W), alone or with labels, which are not used: a loader
            that does not shuffle. Batches go to the device of the model.
        heatmap: a name from `heatmaps.names()` or a callable (model, images, target) -> (N, H, W).
        region_size: side m of the regions, a number or one per dimension: pixels of an image, time
            steps of a series, voxels of a volume. Not for regions of your own, nor tables, of which
            each feature is a region.
        steps: L, how many regions are perturbed; see `step_is`.
        data_range: (low, high) of valid inputs as the network sees them, numbers or one per
            channel (of a table per feature); for normalised images see `normalized_data_range`.
            Not needed by "blur", "mean", "linear" and a constant of your own.
        sampled_steps: J, how many of the steps are evaluated for each image, drawn so that the AOPC
            is unbiased; None for all. The usual 4 are lowered where there are fewer steps. Few
            steps of many images are more precise than many steps of few.
        target_sem: the standard error at which no more images are taken, 50 at least; all images
            if not given.
        sem_of: whose error that is: "aopc", or "gain" for that over the random order.
        control: whether the random order is evaluated too, at as many forwards again.
        seed: seed of ties, sampled steps and noise.
        replacement: "uniform" noise, the usual one, "blur" (of images and volumes), "mean" (not of
            tables), "constant", "noisy_linear" (of images), "linear" (of series), or a
            `Replacement`.
        repeats: independent draws of a random replacement.
        regions: regions of your own in the place of a grid: whole numbers from 0 on, one per
            location, for all inputs, -1 where nothing is perturbed; or a function from inputs to
            these, for each.
        region_relevance: of a region of your own, the "mean" or the "sum" of the heatmap over it.
        step_is: "region", step k perturbs k regions, or "share", step k of L that share of an
            input's regions; if not given, "share" where each input has regions of its own.
        score: "probability", "logit", "log_probability", "sigmoid" (independent labels, or one
            number per image), or (outputs, target) -> (N,).
        output_fn: from what the model returns to (N, classes), where `chosen_output` finds another
            tensor in it.
        execution: how forwards are carried out: images at once, layout, precision, compiling; see
            `Execution`, whose defaults hold if not given.

    Returns:
        An `AOPCEstimate`; printed, it tells AOPC, gain, images, forwards, and whether the target
        was reached.

    Raises:
        ValueError: for impossible values, or no images.
        TypeError: for an argument that does not exist, or batches without images.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
        >>> batches = [torch.rand(64, 3, 16, 16) for _ in range(4)]
        >>> estimate = estimate_aopc(
        ...     model, batches, region_size=4, steps=8, data_range=(0.0, 1.0), target_sem=0.1)
        >>> estimate.num_images, estimate.reached
        (64, True)
    """
    check_network(model)
    _check_target(target_sem, sem_of, control)
    made = with_data_range(get_seeded(heatmap, checked_seed(seed)), data_range)
    protocol = PerturbationProtocol(
        region_size,
        steps,
        data_range,
        replacement,
        repeats,
        at_most(steps, sampled_steps),
        score,
        checked_execution(execution),
        output_fn,
        regions=regions,
        region_relevance=region_relevance,
        step_is=step_is,
    )
    sizes = ChunkSizesByNetwork(protocol.execution.chunk_size)
    orders: tuple[Order, ...] = ("morf", "random") if control else ("morf",)
    left = _left_of(batches, target_sem)

    def look(of: InputBatch) -> list[AOPCResult]:
        settings = (of.protocol(protocol), seed, sizes)
        return batch_results(model, of.images, made, orders, *settings, None, of.inputs, next(left))

    device, collected = compute_device(model), CollectedAreas(target_sem, sem_of)
    collected.collect(rounds_of(model, _images(batches, device, protocol), device), look, device)
    areas, forwards = collected.of_all_processes()
    text = setting_text((protocol.comparable(), seed))
    return AOPCEstimate(areas, forwards, text, target_sem, collected.reached)


def _left_of(batches: Iterable[Any], target_sem: float | None) -> Iterator[int]:
    """How many batches are left at each of them, as far as is known: this one at least."""
    try:
        known = len(batches) if isinstance(batches, Sized) and target_sem is None else 0
    except TypeError:  # a loader of an iterable data set
        known = 0
    return chain(range(known, 0, -1), repeat(1))


def _check_target(target_sem: Any, sem_of: str, control: bool) -> None:
    is_number = isinstance(target_sem, Real) and not isinstance(target_sem, bool)
    if target_sem is not None and not (is_number and 0 < target_sem < float("inf")):
        raise ValueError(f"target_sem={target_sem!r} must be a positive number, or None")
    if sem_of not in ("aopc", "gain"):
        raise ValueError(f'sem_of={sem_of!r} is unknown: choose "aopc" or "gain"')
    if sem_of == "gain" and not control:
        raise ValueError('sem_of="gain" needs control=True: the gain is over the random order')


def _images(
    batches: Iterable[Any], device: torch.device, protocol: PerturbationProtocol
) -> Iterator[InputBatch]:
    for number, batch in enumerate(batches):
        taken = InputBatch.found_in(batch, "give batches of one of these kinds")
        if number == 0:
            protocol.warn_outside(taken.images)
        yield taken.to(device)
