"""Sensitivity-n as a torchmetrics metric: sums and counts only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps import Heatmap
from aopc_monitor.heatmaps.table import get_seeded
from aopc_monitor.metrics.base import MeanOverImages
from aopc_monitor.metrics.functional.opening import opened
from aopc_monitor.metrics.functional.sensitivity_n import results_of_subsets
from aopc_monitor.metrics.functional.subsets import Removal, Sizes, SubsetChoices
from aopc_monitor.metrics.moved_arguments import telling_what_moved
from aopc_monitor.network.chunks import ChunkSizesByNetwork
from aopc_monitor.network.execution import Execution, checked_execution
from aopc_monitor.network.scores import Score
from aopc_monitor.perturbation.input_batch import InputBatch
from aopc_monitor.utilities.checks import check_network
from aopc_monitor.utilities.randomness import generator_for
from aopc_monitor.utilities.setting_text import arguments_text


class SensitivityN(MeanOverImages):
    """Sensitivity-n, averaged over all images seen (Ancona et al. 2018).

    Compare it with `SensitivityN(heatmap="random", ...)`, whose expectation is 0. The states are
    sums of fixed shape, and the subsets depend on `seed` and the batch alone, so that different
    heatmaps and checkpoints are compared on the same ones.

    Args:
        heatmap: a name from `heatmaps.names()` or a callable (model, images, target) -> (N, H, W).
        n: number of features in a subset, or several; `compute` is then their mean.
        subsets: random subsets per image and n.
        region_size: side of a feature in pixels, a number or one per dimension; 1 if not given.
        baseline: what removed features become: a number, one per channel, a (C, H, W) tensor, or
            "mean".
        score: "logit", "probability", "log_probability", "sigmoid", or (outputs, target) -> (N,).
        regions: features of your own in the place of a grid, as in `AOPC`.
        execution: how forwards are carried out; see `Execution`. If no chunk size is given, 64
            images at once, fewer of large ones on a CPU (16 of 224 x 224) and of what memory takes.
        seed: seed of the subsets.
        kwargs: torchmetrics' own arguments.

    Raises:
        ValueError: for unknown names and impossible values.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))
        >>> metric = SensitivityN(heatmap="gradient_x_input", n=[1, 8], subsets=20)
        >>> metric.update(model, torch.rand(4, 3, 8, 8))
        >>> round(float(metric.compute()), 3), metric.curve().shape, metric.undefined().tolist()
        (1.0, torch.Size([2]), [0, 0])
    """

    higher_is_better = True

    total_curve: Tensor
    counts: Tensor

    @telling_what_moved
    def __init__(
        self,
        heatmap: str | Heatmap = "lrp",
        *,
        n: Sizes,
        subsets: int = 100,
        region_size: int | Sequence[int] | None = None,
        baseline: Removal = 0.0,
        score: Score = "logit",
        regions: Any = None,
        execution: Execution | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        execution = checked_execution(execution)
        choices = SubsetChoices(n, subsets, region_size, baseline, score, execution, regions)
        found = get_seeded(heatmap, seed)
        super().__init__(("sensitivity-n", found, seed, choices.key), **kwargs)
        self.heatmap = found
        self.seed = seed
        self._choices = choices
        self._chunks = ChunkSizesByNetwork(execution.chunk_size, searching=False)
        zeros = torch.zeros(len(choices.sizes), dtype=torch.float64)
        self.add_state("total_curve", zeros, dist_reduce_fx="sum")
        # Images with a correlation, without one, and with one that counts as 0.
        self.add_state("counts", zeros.long().expand(3, -1).clone(), dist_reduce_fx="sum")

    def update(
        self,
        model: nn.Module,
        images: Tensor | Mapping[str, Any],
        heatmaps: Tensor | None = None,
        inputs: Any = (),
    ) -> None:
        """Evaluate a batch and add it to the average; the model is left as it was.

        Args:
            model: network that returns (N, classes), or an object with that as `.logits`.
            images: (N, C, H, W) floating point, as the network sees them; or another kind of
                input, such as series (N, C, L), volumes (N, C, D, H, W), tables (N, F), or token
                ids (N, T).
            heatmaps: (N, H, W); computed by `heatmap` for the predicted classes if not given.
            inputs: what `forward` takes after the images: a tensor, several in a tuple, or by name.

        Raises:
            TypeError: for images, heatmaps or outputs of the wrong type.
            ValueError: for a wrong shape, device or value; the message names the argument.
        """
        check_network(model)
        batch = InputBatch.of(images, inputs)
        choices = self._choices.for_batch(batch)
        given = (choices.score, choices.execution, self._chunks)
        made = opened(model, batch.images, *given, inputs=batch.inputs, seed=self.seed)
        with made as (clean, images, chunks):
            if heatmaps is None:
                heatmaps = clean.heatmaps(self.heatmap, chunks)
            generator = generator_for(images, self.seed, purpose="subsets")
            (result,) = results_of_subsets(clean, [heatmaps], choices, generator, chunks)
        self._add(result.per_image[~result.per_image.isnan()])
        curve = result.correlations.nansum(dim=0)
        self.total_curve = self.total_curve + curve.to(self.total_curve)
        defined = len(images) - result.undefined
        counts = torch.stack([defined, result.undefined, result.ignored.sum(dim=0)])
        self.counts = self.counts + counts.to(self.counts)

    def extra_repr(self) -> str:
        """The settings that are not as usual, for `repr`."""
        own = {"heatmap": self.heatmap, "seed": self.seed}
        choices = vars(self._choices)
        execution = None if self._choices.execution == Execution() else self._choices.execution
        return arguments_text(SensitivityN.__init__, {**own, **choices, "execution": execution})

    def curve(self) -> Tensor:
        """(K,) mean correlation at each n over the images for which it is defined."""
        with self._over_processes():
            return self._cast(self.total_curve / self.counts[0])

    def undefined(self) -> Tensor:
        """(K,) number of images left out at each n, because their score was always the same."""
        with self._over_processes():
            return self.counts[1].clone()

    def ignored(self) -> Tensor:
        """(K,) number of images whose heatmap told no subset from another: they count as 0."""
        with self._over_processes():
            return self.counts[2].clone()
