"""The score f(x): the number that a network gives the explained class.

Samek et al. 2017 perturb with f the class score of the network. Here it is the probability of
the explained class unless asked otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from aopc_monitor.utilities.statistics import accumulator_dtype

ScoreFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]
ScoreName = Literal["probability", "logit", "log_probability", "sigmoid"]
Score: TypeAlias = "ScoreName | ScoreFunction"
SCORES = ("probability", "logit", "log_probability", "sigmoid")


# Also what was half precision before somebody cast it: not the type tells, but the sum.
PROBABILITY_SLACK = 0.01


def check_score(score: object) -> None:
    """Raise ValueError unless `score` is a known name or a callable."""
    if not callable(score) and score not in SCORES:
        raise ValueError(
            f"score={score!r} is unknown: choose one of {', '.join(SCORES)}, or give a callable "
            "(outputs, target) -> (N,)"
        )


def are_probabilities(outputs: Tensor) -> bool:
    """Whether (N, classes) outputs are probabilities already: none negative, each row summing to 1.

    Example:
        >>> are_probabilities(torch.tensor([[0.25, 0.75]])), are_probabilities(torch.eye(2) * 3)
        (True, False)
    """
    sums = outputs.to(accumulator_dtype(outputs.device)).sum(dim=1)
    return bool((outputs >= 0).all() and ((sums - 1).abs() <= PROBABILITY_SLACK).all())


def score_function(
    score: Score, clean_outputs: Tensor, are_bounded: bool | None = None
) -> ScoreFunction:
    """The score as a function (outputs (M, classes), target (M,)) -> (M,), for one network.

    Args:
        score: "probability" (softmax over classes), "logit", "log_probability", "sigmoid" (of each
            output, for independent labels), or a function of the same kind.
        clean_outputs: (N, classes) answer to unperturbed images. Where it already consists of
            probabilities, no softmax is applied again.
        are_bounded: whether these are probabilities of independent labels already, so that no
            sigmoid is applied again; if not given, whether all lie between 0 and 1.

    Raises:
        ValueError: where the score would mean something else than its name says: the logit of a
            network that returns probabilities, or the softmax over a single class.
    """
    if not isinstance(score, str):
        return score
    check_score(score)
    if score == "sigmoid":
        if are_bounded is None:
            are_bounded = bool(((clean_outputs >= 0) & (clean_outputs <= 1)).all())
        return _of_target if are_bounded else _sigmoid_of_target
    if score == "logit":
        if are_probabilities(clean_outputs):
            raise ValueError(
                'score="logit", but the model returns probabilities already: use '
                'score="probability" or score="log_probability", or return logits'
            )
        return _of_target
    if clean_outputs.shape[1] == 1:
        raise ValueError(
            f"score={score!r}, but the model returns one number per image, whose softmax is always "
            '1: give score="sigmoid", the probability of the predicted one of two sides'
        )
    if are_probabilities(clean_outputs):
        return _of_target if score == "probability" else _log_of_target
    return _softmax_of_target if score == "probability" else _log_softmax_of_target


def checked_scores(function: ScoreFunction, outputs: Tensor, target: Tensor) -> Tensor:
    """Scores (M,) in the accumulator's precision.

    Raises:
        ValueError: if the function does not give one number per image.
    """
    scores = function(outputs, target)
    if not isinstance(scores, Tensor) or scores.shape != target.shape:
        came_in = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"score returned {came_in} for {len(target)} images, not one number each")
    return scores.to(accumulator_dtype(scores.device))


def _of_target(outputs: Tensor, target: Tensor) -> Tensor:
    return _wide(outputs).gather(1, target[:, None])[:, 0]


def _log_of_target(outputs: Tensor, target: Tensor) -> Tensor:
    probabilities = _of_target(outputs, target)
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


def _sigmoid_of_target(outputs: Tensor, target: Tensor) -> Tensor:
    return _of_target(outputs, target).sigmoid()


def _softmax_of_target(outputs: Tensor, target: Tensor) -> Tensor:
    return _log_softmax_of_target(outputs, target).exp()


def _log_softmax_of_target(outputs: Tensor, target: Tensor) -> Tensor:
    return _of_target(_wide(outputs).log_softmax(dim=1), target)


def _wide(outputs: Tensor) -> Tensor:
    # Half precision is widened first: a softmax in bfloat16 has two digits.
    return outputs.to(accumulator_dtype(outputs.device))
