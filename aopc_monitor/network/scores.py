"""The score f(x): the number that a network gives the explained class.

Samek et al. 2017 perturb with f the class score of the network. Here it is the probability of
the explained class unless asked otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from aopc_monitor.utilities.error_text import check_takes, unknown_name
from aopc_monitor.utilities.statistics import accumulator_dtype

ScoreFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Score: TypeAlias = "str | ScoreFunction"

# How far a row of probabilities may sum from 1. It is the same for every type, because outputs in
# float32 may have been in half precision before somebody cast them.
PROBABILITY_SLACK = 0.01


def check_score(score: object) -> None:
    """Raise ValueError for an unknown name, TypeError for a callable that takes something else."""
    if callable(score):
        check_takes("score", score, ("outputs", "target"))
    elif not (isinstance(score, str) and score in SCORES):
        known = unknown_name("score", score, SCORES)
        raise ValueError(f"{known}, or give a callable (outputs, target) -> (N,)")


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
            output, for independent labels), "value" (the output as it is, of a regression),
            "segmentation" (the mean logit over pixels, of outputs that are such means already), or
            a function of the same kind.
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
    return SCORES[score](Answer(clean_outputs, are_bounded))


def checked_scores(function: ScoreFunction, outputs: Tensor, target: Tensor) -> Tensor:
    """Scores (M,) in the accumulator's precision.

    Raises:
        ValueError: if the function does not give one number per image.
    """
    scores = function(outputs, target)
    if not isinstance(scores, Tensor) or scores.shape != target.shape[:1]:
        came_in = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"score returned {came_in} for {len(target)} images, not one number each")
    return scores.to(accumulator_dtype(scores.device))


@dataclass(frozen=True)
class Answer:
    """What a network answers to clean images, by which a named score chooses its function.

    Attributes:
        outputs: (N, classes).
        are_bounded: whether these are probabilities of independent labels; None if unknown.
    """

    outputs: Tensor
    are_bounded: bool | None = None

    @property
    def are_probabilities(self) -> bool:
        """Whether a softmax was applied already."""
        return are_probabilities(self.outputs)

    def needs_classes(self, score: str) -> None:
        """Raise ValueError where the softmax is over a single class."""
        if self.outputs.shape[1] == 1:
            raise ValueError(
                f"score={score!r}, but the model returns one number per image, whose softmax is "
                'always 1: give score="sigmoid" for the probability of the predicted one of two '
                'sides, or score="value" for a regression'
            )


def _probability(answer: Answer) -> ScoreFunction:
    answer.needs_classes("probability")
    return _of_target if answer.are_probabilities else _softmax_of_target


def _logit(answer: Answer) -> ScoreFunction:
    if answer.are_probabilities:
        raise ValueError(
            'score="logit", but the model returns probabilities already: use '
            'score="probability" or score="log_probability", or return logits'
        )
    return _of_target


def _log_probability(answer: Answer) -> ScoreFunction:
    answer.needs_classes("log_probability")
    return _log_of_target if answer.are_probabilities else _log_softmax_of_target


def _sigmoid(answer: Answer) -> ScoreFunction:
    are_bounded = answer.are_bounded
    if are_bounded is None:
        are_bounded = bool(((answer.outputs >= 0) & (answer.outputs <= 1)).all())
    return _of_target if are_bounded else _sigmoid_of_target


def _value(answer: Answer) -> ScoreFunction:
    return _of_target


def _segmentation(answer: Answer) -> ScoreFunction:
    already = answer.are_bounded if answer.outputs.shape[1] == 1 else answer.are_probabilities
    if already:
        raise ValueError(
            'score="segmentation" is a mean logit, but the model returns probabilities already: '
            "return logits, or give a callable score"
        )
    return _of_target


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


# A score is made known by its row here: which function of outputs and target it is for a network
# that answers so, or a ValueError where the score would mean something else than its name says.
SCORES: dict[str, Callable[[Answer], ScoreFunction]] = {
    "probability": _probability,
    "logit": _logit,
    "log_probability": _log_probability,
    "sigmoid": _sigmoid,
    "value": _value,
    "segmentation": _segmentation,
}


def is_named(function: ScoreFunction) -> bool:
    """Whether a function of outputs and target is one of ours, which look at each row by itself.

    Example:
        >>> is_named(score_function("logit", torch.zeros(1, 2))), is_named(torch.add)
        (True, False)
    """
    return any(function is named for named in _NAMED)  # a user's own may have no hash


_NAMED = (
    _of_target,
    _log_of_target,
    _sigmoid_of_target,
    _softmax_of_target,
    _log_softmax_of_target,
)
