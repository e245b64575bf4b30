"""Sensitivity-n: does the relevance of a set of pixels foretell what their removal does?

Ancona et al. 2018, "Towards better understanding of gradient-based attribution methods for deep
neural networks". Where the AOPC asks for an order, this asks for amounts. As a torchmetrics metric:
`aopc_monitor.metrics.sensitivity_n`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aopc_monitor.metrics.functional.clean_batch import CleanBatch
from aopc_monitor.metrics.functional.opening import opened
from aopc_monitor.metrics.functional.subsets import Removal, Sizes, SubsetChoices, SubsetRemover
from aopc_monitor.metrics.moved_arguments import telling_what_moved
from aopc_monitor.network.chunks import ChunkSizes, ChunkSizesByNetwork, in_chunks
from aopc_monitor.network.execution import Execution, checked_execution
from aopc_monitor.network.scores import Score, checked_scores
from aopc_monitor.perturbation.input_batch import InputBatch
from aopc_monitor.perturbation.input_kinds import kind_of
from aopc_monitor.utilities.checks import NotFiniteError, are_finite, check_network, check_target
from aopc_monitor.utilities.randomness import generator_for
from aopc_monitor.utilities.statistics import accumulator_dtype, error_of_mean

# Outputs that differ by less than a few steps of their own type say nothing of the input.
ROUNDING_STEPS = 4


@dataclass(frozen=True)
class SensitivityNResult:
    """What one evaluation of a batch found.

    Attributes:
        correlations: (N, K) correlation of each image at each size n; NaN where it is undefined,
            because the score was the same for all subsets.
        ignored: (N, K) whether the relevance was the same for all subsets, but the score was not:
            the correlation then counts as 0.
        sizes: the K sizes n.
        forwards: number of images that went through the network.
    """

    correlations: Tensor
    ignored: Tensor
    sizes: tuple[int, ...]
    forwards: int

    @property
    def per_image(self) -> Tensor:
        """(N,) mean over the sizes at which the correlation is defined; NaN if at none."""
        return self.correlations.nanmean(dim=1)

    @property
    def curve(self) -> Tensor:
        """(K,) mean over the images for which the correlation is defined; NaN if for none."""
        return self.correlations.nanmean(dim=0)

    @property
    def undefined(self) -> Tensor:
        """(K,) number of images without a correlation at each size."""
        return self.correlations.isnan().sum(dim=0)

    @property
    def mean(self) -> Tensor:
        """Scalar mean of `per_image` over the images that have one."""
        return self.per_image.nanmean()

    @property
    def sem(self) -> Tensor:
        """Scalar standard error of the mean over images; NaN for a single image."""
        return error_of_mean(self.per_image[~self.per_image.isnan()])


@telling_what_moved
def sensitivity_n(
    model: nn.Module,
    images: Tensor | Mapping[str, Any],
    heatmaps: Tensor,
    *,
    n: Sizes,
    subsets: int = 100,
    region_size: int | Sequence[int] | None = None,
    baseline: Removal = 0.0,
    score: Score = "logit",
    regions: Any = None,
    target: Tensor | None = None,
    inputs: Any = (),
    execution: Execution | None = None,
    generator: torch.Generator | None = None,
) -> SensitivityNResult:
    r"""Correlation of summed relevance with the drop of the score (Ancona et al. 2018).

    .. math::

        \mathrm{corr}_{S,\,|S| = n} \left( \sum_{i \in S} h_i,\; f(x) - f(x_{[x_S = b]}) \right)

    over random subsets S of n features, for each image by itself. It is 1 if the relevance adds up
    to the drop, in any unit. Where the score does not depend on the subset there is no correlation,
    whatever the heatmap: always where n is all features, of which there is one subset only. Such
    images are left out at this n, and counted in `undefined`. Where the score does depend on it and
    the relevance does not, as with a constant heatmap, the correlation counts as 0.

    Args:
        model: network that returns (N, classes), or an object with that as `.logits`. It is
            evaluated in eval mode and left as it was.
        images: (N, C, H, W) floating point, as the network sees them; or another kind of
            input, such as series (N, C, L), volumes (N, C, D, H, W), tables (N, F), or token ids
            (N, T), of which words are removed.
        heatmaps: (N, H, W), one relevance per pixel, on the images' device.
        n: number of features in a subset, or several for a curve; see `subset_sizes`.
        subsets: random subsets per image and n, drawn uniformly.
        region_size: a feature is a square of so many pixels a side, all channels of it; the grid
            is that of the AOPC. A number or one per dimension; 1 if not given.
        baseline: what removed features become in the network's input space: a number, one per
            channel, a (C, H, W) tensor, or "mean" (each image's own, channel by channel).
        score: f: "logit", "probability", "log_probability", "sigmoid", "value", "segmentation", or
            a callable (outputs (M, classes), target (M,)) -> (M,).
        regions: features of your own in the place of a grid, as in `area_over_perturbation_curve`;
            the relevance of one is the sum over it.
        target: (N,) explained class; the prediction on the clean image if not given.
        inputs: what `forward` takes after the images: a tensor, several in a tuple, or by name.
        execution: how forwards are carried out; see `Execution`. If no chunk size is given, 64
            images at once, fewer of large ones on a CPU (16 of 224 x 224) and of what memory takes.
        generator: source of the subsets. If not given, one of its own that is always the same for
            the same images; the global generators are never used. With a generator on the CPU the
            subsets depend neither on the chunk size nor on the device.

    Returns:
        A `SensitivityNResult` with `per_image` (N,), `curve` (K,), `mean`, `sem` and `forwards`.

    Raises:
        TypeError: for images, heatmaps or outputs of the wrong type.
        ValueError: for a wrong shape, device or value; the message names the argument.

    Example:
        >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
        >>> images = torch.rand(3, 1, 4, 4)
        >>> result = sensitivity_n(linear, images, images[:, 0] * linear[1].weight.view(4, 4),
        ...                        n=[1, 4, 8], subsets=20)
        >>> bool((result.correlations > 0.999).all()), result.curve.shape, result.forwards
        (True, torch.Size([3]), 183)
    """
    execution = checked_execution(execution)
    choices = SubsetChoices(n, subsets, region_size, baseline, score, execution, regions)
    check_network(model)
    batch = InputBatch.of(images, inputs)
    if target is not None:
        check_target(target, len(batch.images))
    choices, sizes = choices.for_batch(batch), ChunkSizesByNetwork(execution.chunk_size, False)
    given = (score, execution, sizes)
    made = opened(model, batch.images, *given, target=target, inputs=batch.inputs)
    with made as (clean, images, chunks):
        generator = generator or generator_for(images, 0, purpose="subsets")
        return results_of_subsets(clean, [heatmaps], choices, generator, chunks)[0]


def results_of_subsets(
    clean: CleanBatch,
    heatmaps: Sequence[Tensor],
    choices: SubsetChoices,
    generator: torch.Generator,
    chunks: ChunkSizes,
) -> list[SensitivityNResult]:
    """Remove random subsets from one batch and correlate, inside `untouched(model)`.

    Args:
        clean: the network's answer to the clean images.
        heatmaps: (N, H, W) each.
        choices: what is removed, and how often.
        generator: source of the subsets.
        chunks: images per forward.

    Returns:
        One result per heatmap, all of the same subsets, whose forwards they share.
    """
    for of_images in heatmaps:
        kind_of(clean.images).check_heatmaps(of_images, clean.images)
    remover = SubsetRemover.of(clean.images, choices, generator)
    relevance = torch.stack([remover.relevance(of_images) for of_images in heatmaps])
    sums, scores, changes = _removals(clean, remover, relevance, chunks)
    numbers = remover.regions.numbers
    num_features = remover.regions.num_regions if numbers is None else numbers[:, None]
    rounding = ROUNDING_STEPS * torch.finfo(clean.outputs.dtype).eps
    answered = (changes > rounding).any(dim=2) & (remover.sizes < num_features)
    drops = clean.scores[:, None, None] - scores
    forwards = len(clean.images) + scores.numel()
    results = []
    for of_heatmap in sums:
        correlations, ignored = _correlations(of_heatmap, drops, answered)
        results.append(SensitivityNResult(correlations, ignored, choices.sizes, forwards))
    _warn_of_images_without(results[0].correlations)
    return results


def _removals(
    clean: CleanBatch, remover: SubsetRemover, relevance: Tensor, chunks: ChunkSizes
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each subset the summed relevance, the score, and the relative change of the outputs.

    Args:
        clean: the network's answer to the clean images.
        remover: of the subsets.
        relevance: (heatmaps, N, R).
        chunks: images per forward.

    Returns:
        (heatmaps, N, K, S), (N, K, S) and (N, K, S).
    """
    count = math.prod(remover.shape)
    sums = relevance.new_empty(len(relevance), count)
    scores, changes = relevance.new_empty(2, count)

    def work(start: int, end: int) -> None:
        state = remover.generator.get_state()
        try:
            with clean.forward.in_use():
                image, subset, perturbed = remover.chunk(start, end)
                outputs = clean.forward(perturbed, image)
                for row, of_heatmap in zip(sums, relevance, strict=True):
                    row[start:end] = (of_heatmap[image] * subset).sum(dim=1)
                scores[start:end] = checked_scores(clean.score, outputs, clean.target[image])
                changes[start:end] = _relative_change(outputs, clean.outputs[image])
        except BaseException:
            # A smaller chunk that is tried next gets the same subsets.
            remover.generator.set_state(state)
            raise

    with torch.no_grad():
        in_chunks(count, chunks.forward, work)
    if not are_finite(scores):
        raise NotFiniteError("the model returned NaN or infinite scores for perturbed images")
    return sums.view(-1, *remover.shape), scores.view(remover.shape), changes.view(remover.shape)


def _relative_change(outputs: Tensor, clean: Tensor) -> Tensor:
    """(M,) largest difference among (M, classes) outputs, as a share of the largest output."""
    wide, reference = (t.to(accumulator_dtype(t.device)) for t in (outputs, clean))
    return (wide - reference).abs().amax(dim=1) / reference.abs().amax(dim=1).clamp_min(1e-30)


def _correlations(sums: Tensor, drops: Tensor, answered: Tensor) -> tuple[Tensor, Tensor]:
    """Pearson (N, K) over the last dimension of (N, K, S), NaN unless the drops are different.

    And (N, K) where the sums were all equal although the drops were not, which counts as 0.
    """
    different = answered & (drops.amax(dim=2) > drops.amin(dim=2))
    ignored = different & (sums.amax(dim=2) == sums.amin(dim=2))
    x, y = (values - values.mean(dim=2, keepdim=True) for values in (sums, drops))
    # The squares of tiny values would vanish.
    x, y = (values / values.abs().amax(dim=2, keepdim=True) for values in (x, y))
    pearson = (x * y).sum(dim=2) / (x.square().sum(dim=2) * y.square().sum(dim=2)).sqrt()
    pearson = pearson.clamp(-1, 1).masked_fill(ignored, 0.0)
    return pearson.masked_fill(~different, torch.nan), ignored


def _warn_of_images_without(correlations: Tensor) -> None:
    without = int(correlations.isnan().all(dim=1).sum())
    if without:
        warnings.warn(
            f"sensitivity-n of {without} of {len(correlations)} images is undefined at every n: "
            "whichever features were removed, their score was the same. They are left out; try "
            "another baseline or other n (at n of all features it is always undefined)",
            stacklevel=4,
        )
