"""What deleting words does to a trained network: to its accuracy, and to its certainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aopc_monitor import heatmaps
from aopc_monitor.metrics import area_over_perturbation_curve, deletion_accuracy
from aopc_monitor.network import untouched
from recipes.shared.data.labelled_texts import LabelledTexts

CHUNK = 100


@dataclass(frozen=True)
class Sorted:
    """Texts, what the network takes them for, and how relevant their words are.

    Attributes:
        texts: the texts.
        predicted: (N,) the topics that the network sorts them into.
        relevances: by heatmap, (N, T), for the topic predicted.
        of_true_topic: by heatmap, (N, T), for the topic that they are of.
    """

    texts: LabelledTexts
    predicted: Tensor
    relevances: Mapping[str, Tensor]
    of_true_topic: Mapping[str, Tensor]

    @classmethod
    def of(cls, network: nn.Module, texts: LabelledTexts, names: Sequence[str]) -> Sorted:
        """Sort texts, and explain what they are sorted into and what they are of."""
        with untouched(network), torch.no_grad():
            outputs = torch.cat([network(ids) for ids in texts.input_ids.split(CHUNK)])
        predicted = outputs.argmax(dim=1)

        def explained(target: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
            return {name: relevance_of(network, texts.input_ids, target, name) for name in names}

        informed = [name for name in names if name != "random"]
        return cls(texts, predicted, explained(predicted, names), explained(texts.labels, informed))


def relevance_of(network: nn.Module, ids: Tensor, target: Tensor, heatmap: str) -> Tensor:
    """(N, T) relevance of each word for a topic."""
    explain = heatmaps.get(heatmap)
    parts = zip(ids.split(CHUNK), target.split(CHUNK), strict=True)
    return torch.cat([explain(network, some, topics) for some, topics in parts])


def accuracy_curves(
    network: nn.Module, found: Sorted, most: int, seed: int
) -> dict[str, dict[str, Tensor]]:
    """Accuracy against the number of deleted words, (most + 1,), by protocol and heatmap.

    The protocols are those of Arras et al. 2016: of documents sorted rightly the words go first
    that speak most for the topic; of those sorted wrongly the words that speak least for the true
    topic, so that accuracy rises as far as they were what misled the network.
    """
    right = found.predicted == found.texts.labels
    protocols = {
        f"{int(rows.sum())} documents sorted {how}": rows
        for how, rows in (("rightly", right), ("wrongly", ~right))
        if rows.any()
    }
    curves: dict[str, dict[str, Tensor]] = {protocol: {} for protocol in protocols}
    for name, relevance in found.of_true_topic.items():
        decided = deletion_accuracy(
            network,
            found.texts.input_ids,
            relevance,
            found.texts.labels,
            regions=found.texts.words,
            steps=most,
            generator=torch.Generator().manual_seed(seed),
        )
        for protocol, rows in protocols.items():
            curves[protocol][name] = decided.decided[rows].mean(dim=0)
            curves[protocol]["random"] = decided.at_random[rows].mean(dim=0)
    return curves


def areas(
    network: nn.Module, found: Sorted, steps: int, sampled_steps: int, seed: int
) -> dict[str, Tensor]:
    """(N,) area over the curve of each text by heatmap, which needs no label; all are paired."""
    return {
        name: area_over_perturbation_curve(
            network,
            found.texts.input_ids,
            relevance,
            regions=found.texts.words,
            steps=steps,
            sampled_steps=sampled_steps,
            order="random" if name == "random" else "morf",
            target=found.predicted,
            generator=torch.Generator().manual_seed(seed),
        ).per_image
        for name, relevance in found.relevances.items()
    }
