"""What the answers to clean images make known: what is explained, of which outputs, by which f."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from aopc_monitor.network.asked import AskedNetwork
from aopc_monitor.network.pixels import PixelAnswers, mean_over_pixels
from aopc_monitor.network.scores import Score, ScoreFunction, checked_scores, score_function
from aopc_monitor.network.targets import Explanations, Predicted, Target, chosen_target

# The outputs of some images, or what is kept of them where they are large.
CleanAnswer: TypeAlias = "Tensor | PixelAnswers"


@dataclass(frozen=True)
class CleanAnswers:
    """What is known of a batch once its clean images were answered to.

    Attributes:
        network: what gives (M, classes) outputs for images that are made of the explained ones.
        function: f on outputs and targets.
        outputs: (P, classes) of the clean images, for each explanation.
        explained: which classes of which images are explained.
        predicted: what the network predicts of the images.
        confidence: (P,) mean probability of a class over its pixels, where pixels have classes.
    """

    network: nn.Module
    function: ScoreFunction
    outputs: Tensor
    explained: Explanations
    predicted: Predicted
    confidence: Tensor | None = None


def clean_answers(
    parts: Sequence[CleanAnswer],
    network: nn.Module,
    score: Score,
    asked_score: Score,
    target: Target,
) -> CleanAnswers:
    """Settle what is explained.

    Args:
        parts: what was kept of the answers, chunk by chunk.
        network: what was asked.
        score: what f is to be.
        asked_score: what f is for this network.
        target: what is to be explained; see `chosen_target`.
    """
    if score == "segmentation":
        return _of_pixels(cast("Sequence[PixelAnswers]", parts), network, asked_score)
    outputs = torch.cat(cast("list[Tensor]", parts))
    if callable(score) and outputs.ndim > 2:
        return _of_kept(outputs, network, score, chosen_target(target, outputs, Predicted(None)))
    function = score_function(asked_score, outputs)
    predicted = _predicted(outputs, score, asked_score)
    chosen = chosen_target(target, outputs, predicted)
    if chosen.is_floating_point():
        return _of_kept(outputs, network, score, chosen)
    explained = Explanations.of(chosen)
    network = _of_explained(network, explained)
    return CleanAnswers(network, function, explained.rows_of(outputs), explained, predicted)


def _predicted(outputs: Tensor, score: Score, asked_score: Score) -> Predicted:
    if score == "value":  # of a number there is no class
        return Predicted(outputs.argmax(dim=1) if outputs.shape[1] == 1 else None)
    one = outputs.argmax(dim=1)
    if score != "sigmoid" or not callable(asked_score):  # one of classes, or of two sides
        return Predicted(one)
    columns = [asked_score(outputs, torch.full_like(one, k)) for k in range(outputs.shape[1])]
    return Predicted(one, torch.stack(columns, dim=1) > 0.5)


def _of_explained(network: nn.Module, explained: Explanations) -> nn.Module:
    if explained.has_several and isinstance(network, AskedNetwork):
        return network.at(explained.image)
    return network


def _of_pixels(
    parts: Sequence[PixelAnswers], network: nn.Module, asked_score: Score
) -> CleanAnswers:
    found = PixelAnswers.joined(parts)
    explained = Explanations.of(found.target)
    asked = cast("AskedNetwork", _of_explained(network, explained))
    function = score_function(asked_score, found.outputs)
    kept = asked.keeping(found.pixels, mean_over_pixels)
    return CleanAnswers(kept, function, found.outputs, explained, found.predicted, found.confidence)


def _of_kept(outputs: Tensor, network: nn.Module, score: Score, target: Tensor) -> CleanAnswers:
    """Of a score of the user's own that compares outputs with a target of any shape.

    The score takes the place of the outputs, a single column, so that heatmaps explain it.
    """
    if not callable(score):
        raise TypeError(
            f"target is {target.dtype}; wanted are whole numbers or truth values: only a callable "
            "score is handed another one"
        )

    def column(outputs: Tensor, target: Tensor) -> Tensor:
        return checked_scores(score, outputs, target)[:, None]

    explained = Explanations.of(target)
    kept = target if target.is_floating_point() else explained.target
    of_rows = explained.rows_of(outputs)
    asked = network if isinstance(network, AskedNetwork) else AskedNetwork(network)
    asked = cast("AskedNetwork", _of_explained(asked, explained)).keeping(kept, column)
    first = Explanations(torch.zeros_like(explained.target), explained.image, explained.given)
    function = score_function("value", outputs)
    return CleanAnswers(asked, function, column(of_rows, kept), first, Predicted(None))
