"""Accuracy against the number of deleted words: the protocol of Arras et al. 2016, section 4.2.

Unlike AOPC it needs labels, and asks for decisions and not for scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aopc_monitor.metrics.functional.opening import opened
from aopc_monitor.metrics.functional.survival import are_predicted, decisions_of_orders
from aopc_monitor.network.chunks import ChunkSizesByNetwork
from aopc_monitor.network.execution import Execution, checked_execution
from aopc_monitor.network.outputs import OutputFunction
from aopc_monitor.network.scores import Score
from aopc_monitor.perturbation.data_range import DataRange
from aopc_monitor.perturbation.input_batch import InputBatch
from aopc_monitor.perturbation.protocol import PerturbationProtocol, StepIs
from aopc_monitor.perturbation.region_map import RegionRelevance
from aopc_monitor.perturbation.regions import Order
from aopc_monitor.perturbation.replacements import Replacement
from aopc_monitor.utilities.checks import check_network, check_target
from aopc_monitor.utilities.randomness import generator_for


@dataclass(frozen=True)
class DeletionAccuracy:
    """What became of the decisions for a batch of documents, or inputs of another kind.

    Attributes:
        decided: (N, L+1) whether the document is sorted rightly (1) or wrongly (0) after k steps;
            between the two, the share of repeats.
        at_random: (N, L+1) the same where a random order is deleted.
        is_right: (N,) whether it is sorted rightly as it is.
    """

    decided: Tensor
    at_random: Tensor
    is_right: Tensor

    @property
    def of_right(self) -> Tensor:
        """(L+1,) accuracy of documents sorted rightly, the most relevant deleted first.

        It begins at 1; the sooner it falls, the better the heatmap. NaN where there are none.
        """
        return self.decided[self.is_right].mean(dim=0)

    @property
    def of_wrong(self) -> Tensor:
        """(L+1,) accuracy of documents sorted wrongly, the least relevant deleted first.

        It begins at 0; the sooner it rises, the better the heatmap. NaN where there are none.
        """
        return self.decided[~self.is_right].mean(dim=0)

    @property
    def of_right_at_random(self) -> Tensor:
        """(L+1,) `of_right` under a random order."""
        return self.at_random[self.is_right].mean(dim=0)

    @property
    def of_wrong_at_random(self) -> Tensor:
        """(L+1,) `of_wrong` under a random order."""
        return self.at_random[~self.is_right].mean(dim=0)

    @classmethod
    def joined(cls, parts: Sequence[DeletionAccuracy]) -> DeletionAccuracy:
        """Several batches as one."""
        names = ("decided", "at_random", "is_right")
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def deletion_accuracy(
    model: nn.Module,
    images: Tensor | Mapping[str, Any],
    heatmaps: Tensor,
    labels: Tensor,
    *,
    steps: int,
    region_size: int | Sequence[int] | None = None,
    data_range: DataRange | None = None,
    replacement: str | Replacement | None = None,
    repeats: int = 1,
    regions: Any = None,
    region_relevance: RegionRelevance = "mean",
    step_is: StepIs | None = "region",
    score: Score = "probability",
    output_fn: OutputFunction | None = None,
    execution: Execution | None = None,
    generator: torch.Generator | None = None,
) -> DeletionAccuracy:
    """Accuracy against the number of deleted words (Arras et al. 2016, section 4.2).

    Relevance is that for the true class. Of documents that are sorted rightly the most relevant
    words are deleted first, and the accuracy falls; of those that are sorted wrongly the least
    relevant ones, which speak against the true class, and it rises. Other inputs with regions may
    take the place of documents.

    Args:
        model: network that returns (N, classes), or an object with that as `.logits`; left as it
            was.
        images: token ids (N, T), a mapping with these as `input_ids`, or inputs of another kind.
        heatmaps: (N, T), or `(N, *space)`: relevance for the labels, as a heatmap gives it for
            `target=labels`.
        labels: (N,) true classes.
        steps: L, how many words are deleted.
        region_size: of inputs that are cut into a grid; see `area_over_perturbation_curve`, also
            for what follows.
        data_range: (low, high) of valid inputs, where the replacement needs it.
        replacement: what deleted words become; "zero" for texts if not given, as in the paper.
        repeats: independent draws of a random replacement.
        regions: regions of your own.
        region_relevance: "mean" or "sum" over a word.
        step_is: "region": step k deletes k words, so that no document may have fewer than L;
            "share": that share of the words of each.
        score: "sigmoid" for a network that returns one number for each input.
        output_fn: from what the model returns to (N, classes).
        execution: how forwards are carried out.
        generator: source of ties, of the random order and of noise.

    Raises:
        TypeError: for inputs, heatmaps or outputs of the wrong type.
        ValueError: for a wrong shape, device or value; the message names the argument.

    Example:
        >>> words = nn.Sequential(nn.EmbeddingBag(3, 2, mode="sum"))
        >>> words[0].weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
        >>> ids = torch.tensor([[0, 0, 1], [0, 1, 1]])
        >>> speaks_for_0 = torch.tensor([[1.0, 1.0, -1.0], [1.0, -1.0, -1.0]])
        >>> found = deletion_accuracy(words, ids, speaks_for_0, torch.tensor([0, 0]), steps=2)
        >>> found.of_right.tolist(), found.of_wrong.tolist()
        ([1.0, 1.0, 0.0], [0.0, 1.0, 1.0])
    """
    protocol = PerturbationProtocol(
        region_size,
        steps,
        data_range,
        replacement,
        repeats,
        score=score,
        execution=checked_execution(execution),
        output_fn=output_fn,
        regions=regions,
        region_relevance=region_relevance,
        step_is=step_is,
    )
    check_network(model)
    batch = InputBatch.of(images)
    check_target(labels, len(batch.images), name="labels")
    protocol = batch.protocol(protocol)
    protocol.warn_of_doubts(batch.images)
    return _decisions(model, batch, heatmaps, labels, protocol, generator)


def _decisions(
    model: nn.Module,
    batch: InputBatch,
    heatmaps: Tensor,
    labels: Tensor,
    protocol: PerturbationProtocol,
    generator: torch.Generator | None,
) -> DeletionAccuracy:
    sizes = ChunkSizesByNetwork(protocol.execution.chunk_size)
    how = (protocol.score, protocol.execution, sizes)
    made = opened(model, batch.images, *how, output_fn=protocol.output_fn, inputs=batch.inputs)
    with made as (clean, images, chunks), torch.no_grad():
        check_target(labels, len(images), clean.outputs.shape[1], name="labels")
        labels = labels.to(clean.outputs.device)
        is_right = are_predicted(clean.outputs, labels)
        generator = generator or generator_for(images, seed=0)
        orders = _orders(heatmaps, is_right > 0)
        decided = decisions_of_orders(clean, labels, orders, protocol, generator, chunks)
    # Each with the decision before anything is deleted.
    ordered, at_random = (torch.cat([is_right[:, None], of.mean(dim=1)], dim=1) for of in decided)
    return DeletionAccuracy(ordered, at_random, is_right > 0)


def _orders(heatmaps: Tensor, is_right: Tensor) -> list[tuple[Tensor, Order]]:
    """What is deleted first: what is most relevant, of wrongly sorted documents what is least."""
    rows = is_right.to(heatmaps.device).view(-1, *[1] * (heatmaps.ndim - 1))
    signed = torch.where(rows, heatmaps, -heatmaps)
    return [(signed, "morf"), (signed, "random")]
