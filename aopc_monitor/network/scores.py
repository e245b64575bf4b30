"""The score f(x): the number that a network gives the explained class.

Samek et al. 2017 perturb with f the class score of the network. Here it is the probability of
the explained class unless asked otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from aopc_monitor.utilities.statistics import accumulator_dtype

ScoreFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]
ScoreName = Literal["probability", "logit", "log_probability"]
Score: TypeAlias = "ScoreName | ScoreFunction"
SCORES = ("probability", "logit", "log_probability")


# Also what was half precision before somebody cast it: not the type tells, but the sum.
PROBABILITY_SLACK = 0.01


def check_score(score: object) -> None:
    """Raise ValueError unless `score` is a known name or a callable."""
    if not callable(score) and score not in SCORES:
        raise ValueError(
            f"score={score!r} is unknown: choose one of {', '.join(SCORES)}, or give a callable "
            "(outputs, target) -> (N,)"
        )


def class_outputs(outputs: Any, num_images: int) -> Tensor:
    """The (N, classes) tensor of a network's answer.

    That is the answer itself, its `.logits`, or the first tensor of that shape among several, as
    networks with auxiliary outputs return them.

    Args:
        outputs: what the network returned.
        num_images: N, the number of images it was given.

    Raises:
        TypeError: if there is no such tensor.

    Example:
        >>> class_outputs(torch.zeros(2, 10), num_images=2).shape
        torch.Size([2, 10])
    """
    found = list(_tensors_of(outputs))
    for tensor in found:
        if tensor.ndim == 2 and len(tensor) == num_images:
            if not tensor.is_floating_point():
                raise TypeError(
                    f"the model returned {tensor.dtype} numbers; class scores are floats"
                )
            return tensor
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in found)
    what = "tensors of shape" if len(found) > 1 else "a tensor of shape"
    came_in = f"{what} {shapes}" if found else f"a {type(outputs).__name__}"
    raise TypeError(
        f"the model returned {came_in} for {num_images} images; wanted is a tensor of shape "
        f"({num_images}, classes), or an object with one as `.logits`. Wrap the model in a module "
        "that returns it; AOPCMonitor takes one by model_fn=, heatmaps a function by output_fn="
    )


def _tensors_of(outputs: Any) -> Iterator[Tensor]:
    """The tensors of a network's answer, the likeliest first."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(getattr(outputs, "logits", None), Tensor):
        yield outputs.logits
    elif isinstance(outputs, (tuple, list)):
        yield from (value for value in outputs if isinstance(value, Tensor))
    elif isinstance(outputs, Mapping):
        yield from (value for value in outputs.values() if isinstance(value, Tensor))


def are_probabilities(outputs: Tensor) -> bool:
    """Whether (N, classes) outputs are probabilities already: none negative, each row summing to 1.

    Example:
        >>> are_probabilities(torch.tensor([[0.25, 0.75]])), are_probabilities(torch.eye(2) * 3)
        (True, False)
    """
    sums = outputs.to(accumulator_dtype(outputs.device)).sum(dim=1)
    return bool((outputs >= 0).all() and ((sums - 1).abs() <= PROBABILITY_SLACK).all())


def score_function(score: Score, clean_outputs: Tensor) -> ScoreFunction:
    """The score as a function (outputs (M, classes), target (M,)) -> (M,), for one network.

    Args:
        score: "probability" (softmax over classes), "logit", "log_probability", or a function of
            the same kind; a network that ends in sigmoids needs one.
        clean_outputs: (N, classes) answer to unperturbed images. Where it already consists of
            probabilities, no softmax is applied again.

    Raises:
        ValueError: where the score would mean something else than its name says: the logit of a
            network that returns probabilities, or the softmax over a single class.
    """
    if not isinstance(score, str):
        return score
    check_score(score)
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
            "1: give score=lambda outputs, target: outputs[:, 0].sigmoid(), or similar"
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


def _softmax_of_target(outputs: Tensor, target: Tensor) -> Tensor:
    return _log_softmax_of_target(outputs, target).exp()


def _log_softmax_of_target(outputs: Tensor, target: Tensor) -> Tensor:
    return _of_target(_wide(outputs).log_softmax(dim=1), target)


def _wide(outputs: Tensor) -> Tensor:
    # Half precision is widened first: a softmax in bfloat16 has two digits.
    return outputs.to(accumulator_dtype(outputs.device))
