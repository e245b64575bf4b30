"""Whether predictions survive that regions are perturbed: AOPC's question, asked of decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from aopc_monitor.metrics.functional.clean_batch import CleanBatch
from aopc_monitor.metrics.functional.opening import opened
from aopc_monitor.network.chunks import ChunkSizes, ChunkSizesByNetwork
from aopc_monitor.network.execution import Execution, TargetScore, checked_execution
from aopc_monitor.network.outputs import OutputFunction
from aopc_monitor.network.scores import Score
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
from aopc_monitor.utilities.statistics import accumulator_dtype

ORDERS: tuple[Order, ...] = ("morf", "random", "lerf")


@dataclass(frozen=True)
class Survival:
    """Share of an image's perturbed versions x^(1) ... x^(L) that are still predicted as x^(0) was.

    Attributes:
        morf: (N,) where the most relevant regions go first.
        random: (N,) where regions go in a random order.
        lerf: (N,) where the least relevant go first.
    """

    morf: Tensor
    random: Tensor
    lerf: Tensor

    @property
    def gap(self) -> Tensor:
        """(N,) `lerf` minus `morf`: what the heatmap tells apart; 0 on average if nothing."""
        return self.lerf - self.morf


def survival(
    model: nn.Module,
    images: Tensor | Mapping[str, Any],
    heatmaps: Tensor,
    *,
    region_size: int | Sequence[int] | None = None,
    steps: int,
    data_range: DataRange | None = None,
    replacement: str | Replacement | None = None,
    repeats: int = 1,
    sampled_steps: int | None = None,
    regions: Any = None,
    region_relevance: RegionRelevance = "mean",
    step_is: StepIs | None = None,
    score: Score = "probability",
    output_fn: OutputFunction | None = None,
    inputs: Any = (),
    execution: Execution | None = None,
    generator: torch.Generator | None = None,
) -> Survival:
    """Whether images keep their predicted class when regions are perturbed, in three orders.

    The perturbed images are those of AOPC (Samek et al. 2017, eq. 11), and the same noise meets all
    orders. A decision in the place of f(x), without probabilities, is of this package, and the gap
    the counterpart of `SymmetricRelevanceGain`.

    Args:
        model: network that returns (N, classes), or an object with that as `.logits`; left as it
            was.
        images: (N, C, H, W) floating point, or inputs of another kind.
        heatmaps: (N, H, W), or `(N, *space)`: relevance for the predicted classes.
        region_size: see `area_over_perturbation_curve`, also for what follows.
        steps: L, how many regions are perturbed.
        data_range: (low, high) of valid inputs, where the replacement needs it.
        replacement: what regions become.
        repeats: independent draws of a random replacement.
        sampled_steps: J, how many of the steps are evaluated for each image; all if not given.
        regions: regions of your own.
        region_relevance: "mean" or "sum" over a region.
        step_is: "region" or "share".
        score: "sigmoid" for a network that returns one number for each image: its sides are then
            the classes. Of several labels for an image the likeliest is its class.
        output_fn: from what the model returns to (N, classes).
        inputs: what `forward` takes after the images.
        execution: how forwards are carried out.
        generator: source of ties, of the random order, of steps and of noise.

    Raises:
        TypeError: for images, heatmaps or outputs of the wrong type.
        ValueError: for a wrong shape, device or value, or a score without a predicted class; the
            message names the argument.

    Example:
        >>> from aopc_monitor.perturbation import Constant
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False))
        >>> _ = model[1].weight.data.copy_(torch.stack([torch.ones(16), -torch.ones(16)]))
        >>> images = torch.ones(1, 1, 4, 4)
        >>> images[0, 0, :2, :2] = 9.0
        >>> found = survival(
        ...     model, images, images[:, 0], region_size=2, steps=2, replacement=Constant(-4.0))
        >>> found.morf.tolist(), found.lerf.tolist(), found.gap.tolist()
        ([0.0], [1.0], [1.0])
    """
    check_has_classes(score)
    protocol = PerturbationProtocol(
        region_size,
        steps,
        data_range,
        replacement,
        repeats,
        sampled_steps,
        score,
        checked_execution(execution),
        output_fn,
        regions=regions,
        region_relevance=region_relevance,
        step_is=step_is,
    )
    check_network(model)
    batch = InputBatch.of(images, inputs)
    protocol = batch.protocol(protocol)
    protocol.warn_of_doubts(batch.images)
    return _survival(model, batch, heatmaps, protocol, generator)


def _survival(
    model: nn.Module,
    batch: InputBatch,
    heatmaps: Tensor,
    protocol: PerturbationProtocol,
    generator: torch.Generator | None,
) -> Survival:
    protocol = protocol.for_inputs(batch.images)
    sizes = ChunkSizesByNetwork(protocol.execution.chunk_size)
    how = (protocol.score, protocol.execution, sizes)
    made = opened(model, batch.images, *how, output_fn=protocol.output_fn, inputs=batch.inputs)
    with made as (clean, images, chunks), torch.no_grad():
        generator = generator or generator_for(images, seed=0)
        orders = [(heatmaps, order) for order in ORDERS]
        predicted = predicted_classes(clean, protocol.score)
        kept = decisions_of_orders(clean, predicted, orders, protocol, generator, chunks)
    return Survival(*(share_of_steps(of_order, protocol.strata) for of_order in kept))


def decisions_of_orders(
    clean: CleanBatch,
    classes: Tensor,
    orders: Sequence[tuple[Tensor, Order]],
    protocol: PerturbationProtocol,
    generator: torch.Generator,
    chunks: ChunkSizes,
) -> Tensor:
    """Whether perturbed images are predicted as told, inside `untouched(model)`.

    Args:
        clean: the network's answer to the clean images.
        classes: (N,) as what each image is to be predicted.
        orders: heatmaps (N, H, W) and what to perturb first.
        protocol: how to perturb.
        generator: source of ties, steps and noise.
        chunks: images per forward.

    Returns:
        (orders, N, repeats, J), 1 or 0.
    """

    def is_predicted(images: Tensor, rows: Tensor) -> Tensor:
        return are_predicted(clean.forward(images, rows), classes[rows])

    kept, _ = curves_of_orders(
        is_predicted,
        clean.images,
        orders,
        protocol,
        generator,
        clean.chunk_size(chunks),
        forward=clean.forward,
        scores_of=scores_in_company if clean.company else None,
    )
    return kept


def check_has_classes(score: Score) -> None:
    """Raise ValueError for a score of which an image has no one predicted class."""
    if score in ("value", "segmentation"):
        raise ValueError(
            f"score={score!r}: an image has no one predicted class, which is what is compared"
        )


def predicted_classes(clean: CleanBatch, score: Score) -> Tensor:
    """(N,) classes of the clean images.

    Raises:
        ValueError: for outputs of one column that the score tells no class of.
    """
    if clean.outputs.shape[1] == 1:
        raise ValueError(
            f"score={score!r}: the model returned one number for each image, of which the class is "
            'not known; give score="sigmoid" if its sign decides'
        )
    return clean.outputs.argmax(dim=1)


@dataclass(frozen=True)
class ScoreAndDecision(TargetScore):
    """f(x) with the decision beside it, from the same forward: (M, 2).

    The second is 1 where the class is still that of the clean image, else 0.

    Attributes:
        predicted: (N,) the predicted classes of the clean images.
    """

    predicted: Tensor = field(kw_only=True)

    def of(self, outputs: Tensor, image: Tensor) -> Tensor:
        """(M, 2) of outputs (M, classes), for images made of the clean ones (M,)."""
        decisions = are_predicted(outputs, self.predicted[image])
        return torch.stack([super().of(outputs, image).to(decisions), decisions], dim=1)


def scores_and_decisions(clean: CleanBatch) -> ScoreAndDecision:
    """The score of a batch with the decision beside it.

    Args:
        clean: the network's answer to the clean images, of which each has one predicted class.
    """
    assert clean.predicted.one is not None
    return ScoreAndDecision(**vars(clean.score_of), predicted=clean.predicted.one)


def are_predicted(outputs: Tensor, classes: Tensor) -> Tensor:
    """(M,) 1 where outputs (M, classes) have their greatest value at the class, else 0."""
    return (outputs.argmax(dim=1) == classes).to(accumulator_dtype(outputs.device))


def share_of_steps(kept: Tensor, strata: Strata) -> Tensor:
    """(..., N) mean over the steps 1 ... L of what is known at J of them.

    Args:
        kept: (..., N, repeats, J) whether the class was kept, 1 or 0.
        strata: which steps each of them stands for: itself, or the part it was drawn from.

    Example:
        >>> share_of_steps(torch.tensor([[[1.0, 0.0]]]), Strata(steps=3, count=2)).item()
        0.3333333432674408
    """
    stands_for = torch.tensor(strata.sizes, device=kept.device, dtype=kept.dtype)
    return (kept * stands_for).sum(dim=-1).mean(dim=-1) / strata.steps
