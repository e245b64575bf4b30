"""AOPC of a data set, from as many of its images as a wanted precision takes; with its error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import chain, repeat
from numbers import Real
from typing import Any

import torch
from torch import nn

from aopc_monitor.heatmaps import Heatmap, with_data_range
from aopc_monitor.heatmaps.table import get_seeded
from aopc_monitor.metrics.aopc_estimate import AOPCEstimate
from aopc_monitor.metrics.collected_areas import CollectedAreas, Quantity
from aopc_monitor.metrics.functional.aopc import batch_results
from aopc_monitor.metrics.functional.aopc_result import AOPCResult
from aopc_monitor.metrics.moved_arguments import telling_what_moved
from aopc_monitor.metrics.shared_rounds import rounds_of
from aopc_monitor.network.chunks import ChunkSizesByNetwork
from aopc_monitor.network.execution import Execution, checked_execution
from aopc_monitor.network.outputs import OutputFunction
from aopc_monitor.network.scores import Score
from aopc_monitor.network.sharded import compute_device
from aopc_monitor.network.targets import TargetChoice
from aopc_monitor.perturbation.data_range import DataRange
from aopc_monitor.perturbation.input_batch import InputBatch
from aopc_monitor.perturbation.protocol import PerturbationProtocol, StepIs
from aopc_monitor.perturbation.protocol_choices import SUGGESTED_SAMPLED_STEPS, at_most
from aopc_monitor.perturbation.region_map import RegionRelevance
from aopc_monitor.perturbation.regions import Order
from aopc_monitor.perturbation.replacements import Replacement
from aopc_monitor.utilities.checks import check_network, checked_seed
from aopc_monitor.utilities.setting_text import setting_text

_ORDERS: tuple[Order, ...] = ("morf", "random")


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
    target: TargetChoice = None,
    inputs_fn: Callable[[Any], Any] | None = None,
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
        batches: batches of images (N, C, H, W), of another kind of input, or of texts (mappings
            with `input_ids`), alone or with labels, which are not used: a loader that does not
            shuffle. Batches go to the device of the model.
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
            tables), "constant", "noisy_linear" (of images), "linear" (of series); of texts "zero",
            the usual one, "left_out", `MaskToken(id)`; or a `Replacement`.
        repeats: independent draws of a random replacement.
        regions: regions of your own in the place of a grid: whole numbers from 0 on, one per
            location, for all inputs, -1 where nothing is perturbed; or a function from inputs to
            these, for each.
        region_relevance: of a region of your own, the "mean" or the "sum" of the heatmap over it.
        step_is: "region", step k perturbs k regions, or "share", step k of L that share of an
            input's regions; if not given, "share" where each input has regions of its own.
        score: "probability", "logit", "log_probability", "sigmoid" (independent labels, or one
            number per image), "value" (of a regression), "segmentation" (mean logit of a class over
            the pixels that have it), or (outputs, target) -> (N,).
        output_fn: from what the model returns to (N, classes), where `chosen_output` finds another
            tensor in it.
        target: what is explained: "predicted" (by a
            score of independent labels or pixels each class that is predicted, by itself), or a
            function from clean outputs to (N,) classes or (N, K) truth values; the likeliest class,
            or the one of most pixels, if not given.
        inputs_fn: from a batch to what the model's `forward` takes after the images: a tensor of
            one row for each image, several in a tuple, or by name in a dict.
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
    _check(model, target_sem, sem_of, control)
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
        target=target,
    )
    sizes = ChunkSizesByNetwork(protocol.execution.chunk_size)
    orders, left = _ORDERS[: 2 if control else 1], _left_of(batches, target_sem)

    def look(of: InputBatch) -> list[AOPCResult]:
        settings = (of.protocol(protocol), seed, sizes)
        return batch_results(model, of.images, made, orders, *settings, None, of.inputs, next(left))

    device, collected = compute_device(model), CollectedAreas(target_sem, sem_of)
    taken = _images(batches, inputs_fn, device, protocol)
    collected.collect(rounds_of(model, taken, device), look, device)
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


def _check(model: Any, target_sem: Any, sem_of: str, control: bool) -> None:
    check_network(model)
    is_number = isinstance(target_sem, Real) and not isinstance(target_sem, bool)
    if target_sem is not None and not (is_number and 0 < target_sem < float("inf")):
        raise ValueError(f"target_sem={target_sem!r} must be a positive number, or None")
    if sem_of not in ("aopc", "gain"):
        raise ValueError(f'sem_of={sem_of!r} is unknown: choose "aopc" or "gain"')
    if sem_of == "gain" and not control:
        raise ValueError('sem_of="gain" needs control=True: the gain is over the random order')


def _images(
    batches: Iterable[Any],
    inputs_fn: Callable[[Any], Any] | None,
    device: torch.device,
    protocol: PerturbationProtocol,
) -> Iterator[InputBatch]:
    for number, batch in enumerate(batches):
        taken = InputBatch.found_in(batch, "give batches of one of these kinds", inputs_fn)
        if number == 0:
            protocol.warn_of_doubts(taken.images)
        yield taken.to(device)
