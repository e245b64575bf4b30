"""The area over the perturbation curve: the readable statement of eq. 12."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from aopc_monitor.metrics.functional.aopc_result import AOPCResult
from aopc_monitor.metrics.functional.clean_batch import CleanBatch
from aopc_monitor.metrics.functional.opening import opened
from aopc_monitor.metrics.functional.survival import scores_and_decisions, share_of_steps
from aopc_monitor.metrics.moved_arguments import telling_what_moved
from aopc_monitor.network.chunks import ChunkSizes, ChunkSizesByNetwork, proceed
from aopc_monitor.network.execution import Execution, checked_execution
from aopc_monitor.network.further_inputs import Inputs
from aopc_monitor.network.outputs import OutputFunction
from aopc_monitor.network.scores import Score
from aopc_monitor.network.targets import Target
from aopc_monitor.perturbation.company import scores_in_company
from aopc_monitor.perturbation.curve import curves_of_orders
from aopc_monitor.perturbation.data_range import DataRange
from aopc_monitor.perturbation.input_batch import InputBatch
from aopc_monitor.perturbation.protocol import PerturbationProtocol, StepIs
from aopc_monitor.perturbation.region_map import RegionRelevance
from aopc_monitor.perturbation.regions import Order
from aopc_monitor.perturbation.replacements import Replacement
from aopc_monitor.perturbation.steps import Strata
from aopc_monitor.utilities.checks import check_network
from aopc_monitor.utilities.randomness import generator_for

if TYPE_CHECKING:
    from aopc_monitor.heatmaps import Heatmap


@telling_what_moved
def area_over_perturbation_curve(
    model: nn.Module,
    images: Tensor | Mapping[str, Any],
    heatmaps: Tensor,
    *,
    region_size: int | Sequence[int] | None = None,
    steps: int,
    data_range: DataRange | None = None,
    order: Order = "morf",
    replacement: str | Replacement | None = None,
    repeats: int = 1,
    sampled_steps: int | None = None,
    regions: Any = None,
    region_relevance: RegionRelevance = "mean",
    step_is: StepIs | None = None,
    score: Score = "probability",
    output_fn: OutputFunction | None = None,
    target: Target = None,
    inputs: Any = (),
    execution: Execution | None = None,
    generator: torch.Generator | None = None,
) -> AOPCResult:
    r"""Area over the perturbation curve of a batch (Samek et al. 2017, eq. 12).

    .. math:: \frac{1}{L+1} \left\langle \sum_{k=0}^{L} f(x^{(0)}) - f(x^{(k)}) \right\rangle

    Args:
        model: network that returns (N, classes), or an object with that as `.logits`. It is
            evaluated in eval mode and left as it was.
        images: (N, C, H, W) floating point, as the network sees them; or another kind of
            input: series (N, C, L), volumes (N, C, D, H, W), tables (N, F), token ids (N, T), or
            a mapping with these as `input_ids`.
        heatmaps: (N, H, W), one relevance per pixel, on the images' device; where a target names
            several classes of an image also (N, K, H, W), one for each.
        region_size: side m of the regions, a number or one per dimension. Not for regions of your
            own, nor tables, of which each feature is a region.
        steps: L, how many regions are perturbed; see `step_is`.
        data_range: (low, high) of valid inputs as the network sees them, numbers or one per
            channel (of a table per feature); for normalised images see `normalized_data_range`.
            Not needed by "blur", "mean", "linear" and a constant of your own.
        order: "morf" (most relevant first), "lerf" (least relevant first) or "random".
        replacement: "uniform" noise, the usual one, "blur" (of images, volumes), "mean" (not of
            tables), "constant", "noisy_linear" (images), "linear" (series); of texts "zero", the
            usual one, "left_out", `MaskToken(id)`; or a `Replacement`.
        repeats: independent draws of a random replacement, averaged. Others are evaluated once.
        sampled_steps: J, how many of the steps are evaluated for each image, one drawn from each of
            J parts of 1 ... L (unbiased, at L / J times fewer forwards); all if not given.
        regions: regions of your own in the place of a grid: whole numbers from 0 on, one per
            location, for all inputs or for each, -1 where nothing is perturbed; or a function from
            inputs to these.
        region_relevance: of a region of your own, the "mean" or the "sum" of the heatmap over it.
        step_is: "region", step k perturbs k regions, or "share", step k of L that share of an
            input's regions; if not given, "share" where each input has regions of its own.
        score: f: "probability", "logit", "log_probability", "sigmoid" (independent labels, or one
            number per image), "value" (of a regression), "segmentation" (of outputs (N, classes,
            H, W): the mean logit of the class that covers most pixels, over the pixels that the
            clean image has it at), or a callable (outputs (M, classes), target (M,)) -> (M,).
        output_fn: from what the model returns to (N, classes), where that is not what is found.
        target: (N,) explained class; the prediction on the clean image if not given. Or (N, K)
            truth values, of which each true one is explained by itself (an image counts once, by
            the mean over its labels, and one without any is left out); "predicted", all labels that
            are predicted; or a function from the clean outputs to one of these.
        inputs: what `forward` takes after the images: a tensor, several in a tuple, or by name.
        execution: how forwards are carried out; see `Execution`.
        generator: source of ties and noise. If not given, one of its own, always the same for the
            same images; the global ones are never used. The noise does not depend on the chunk
            size, and with a generator on the CPU not on the device either.

    Returns:
        An `AOPCResult` with `per_image` (N,), `curve` (L+1,), `mean`, `sem` and `forwards`.

    Raises:
        TypeError: for images, heatmaps or outputs of the wrong type.
        ValueError: for a wrong shape, device or value; the message names the argument.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        >>> images = torch.rand(5, 1, 8, 8)
        >>> result = area_over_perturbation_curve(
        ...     model, images, images[:, 0], region_size=2, steps=8, data_range=(0.0, 1.0))
        >>> result.per_image.shape, result.curve.shape, result.forwards
        (torch.Size([5]), torch.Size([9]), 45)
    """
    execution = checked_execution(execution)
    protocol = PerturbationProtocol(
        region_size,
        steps,
        data_range,
        replacement,
        repeats,
        sampled_steps,
        score,
        execution,
        output_fn,
        regions=regions,
        region_relevance=region_relevance,
        step_is=step_is,
    )
    check_network(model)
    batch = InputBatch.of(images, inputs)
    protocol = batch.protocol(protocol)
    protocol.warn_of_doubts(batch.images)
    sizes = ChunkSizesByNetwork(execution.chunk_size)
    given = (heatmaps, (order,), protocol, 0, sizes, target, batch.inputs)
    (result,) = batch_results(model, batch.images, *given, generator=generator)
    return result


def batch_results(
    model: nn.Module,
    images: Tensor,
    heatmap: Heatmap | Tensor,
    orders: Sequence[Order],
    protocol: PerturbationProtocol,
    seed: int,
    sizes: ChunkSizesByNetwork,
    target: Target = None,
    inputs: Inputs = (),
    batches: int = 1,
    generator: torch.Generator | None = None,
) -> list[AOPCResult]:
    """Explain a batch, and perturb it in several orders with the same draws.

    Args:
        model: the network, wrapped or not; left as it was.
        images: (N, C, H, W).
        heatmap: what makes heatmaps of the predicted classes, or (N, H, W) heatmaps.
        orders: what to perturb first.
        protocol: how to perturb.
        seed: seed of ties, sampled steps and noise, which depend on the batch too.
        sizes: images at once.
        target: what is explained; what the protocol tells if not given.
        inputs: what the network's forward takes beside the images, one row for each.
        batches: how many such batches are to come, with this one, as far as is known.
        generator: source of ties, steps and noise; one of its own, of the seed, if not given.

    Returns:
        One result per order. Differences of their `per_image` are paired.
    """
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
        to_come=batches * protocol.forwards(len(images), len(orders)),
        seed=seed,
    ) as (clean, images, chunks):
        if callable(heatmap):
            maps = clean.heatmaps(heatmap, chunks)
        else:
            maps = clean.explained.heatmaps_of(heatmap, images)
        generator = generator or generator_for(images, seed)
        return results_of_orders(
            clean, protocol, [(maps, order) for order in orders], generator, chunks
        )


def results_of_orders(
    clean: CleanBatch,
    protocol: PerturbationProtocol,
    orders: Sequence[tuple[Tensor, Order]],
    generator: torch.Generator,
    chunks: ChunkSizes,
    before_each: Callable[[], None] = proceed,
    survival: bool = False,
) -> list[AOPCResult]:
    """Perturb one batch in several orders with the same draws, inside `untouched(model)`.

    Args:
        clean: the network's answer to the clean images.
        protocol: how to perturb.
        orders: heatmaps (P, H, W) and what to perturb first.
        generator: source of ties, steps and noise.
        chunks: images per forward.
        before_each: called before each chunk; raises to stop.
        survival: whether results tell, from the same forwards, how often the predicted class
            survives; only of networks that predict one class of each image.

    Returns:
        One result per order. Differences of their `per_image` are paired.
    """
    if not len(clean.images):
        return [AOPCResult.of_nothing(clean.explained.given, protocol.steps)] * len(orders)
    if clean.explained.has_several:
        protocol = protocol.for_rows(clean.explained.image, clean.images)
    found, steps = curves_of_orders(
        scores_and_decisions(clean) if survival else clean.score_of,
        clean.images,
        orders,
        protocol,
        generator,
        clean.chunk_size(chunks),
        before_each,
        clean.forward,
        scores_in_company if clean.company else None,
    )
    over_images, strata = clean.explained.over_images, protocol.strata
    scores, kept = found.unbind(dim=-1) if survival else (found, None)
    shares = [None] * len(orders) if kept is None else share_of_steps(kept, strata)
    areas = area_over_curve(clean.scores, scores, strata)
    curves = _curves(clean.scores, scores, steps, protocol.steps)
    # The clean images go through the network once, whatever is explained of them.
    extra = len(clean.explained.given) - len(clean.images)
    forwards = protocol.forwards(len(clean.images), len(orders)) + extra
    return [
        AOPCResult(over_images(area), over_images(curve), clean.explained.given, forwards, share)
        for area, curve, share in zip(areas, curves, shares, strict=True)
    ]


def area_over_curve(clean: Tensor, perturbed: Tensor, strata: Strata) -> Tensor:
    r"""Equation 12 of Samek et al. 2017 for each image of a batch.

    .. math:: \frac{1}{L+1} \left\langle \sum_{k=0}^{L} f(x^{(0)}) - f(x^{(k)}) \right\rangle

    Args:
        clean: (N,) f(x^(0)).
        perturbed: (..., N, repeats, J) f(x^(k)) at J of the steps 1 ... L.
        strata: which steps each of them stands for: itself, or the part it was drawn from.

    Returns:
        (..., N); AOPC is their mean.

    Example:
        >>> clean, perturbed = torch.tensor([1.0]), torch.tensor([[[1.0, 0.5, 0.0]]])
        >>> area_over_curve(clean, perturbed, Strata(steps=3, count=3))
        tensor([0.3750])
    """
    drops = clean[:, None, None] - perturbed  # f(x^(0)) - f(x^(k)), which is 0 at k = 0
    stands_for = torch.tensor(strata.sizes, device=drops.device, dtype=drops.dtype)
    areas = (drops * stands_for).sum(dim=-1) / (strata.steps + 1)
    return areas.mean(dim=-1)


def _curves(clean: Tensor, scores: Tensor, steps: Tensor, last: int) -> Tensor:
    """(orders, N, L+1) means over repeats of (orders, N, repeats, J) scores; NaN where is none."""
    sums = scores.new_zeros(*scores.shape[:2], last + 1)
    at = steps.flatten(1)
    sums.scatter_add_(2, at.expand(len(scores), -1, -1), scores.flatten(2))
    counts = torch.zeros_like(sums[0]).scatter_add_(1, at, torch.ones_like(scores[0]).flatten(1))
    curves = sums / counts
    curves[..., 0] = clean
    return curves
