"""What class probabilities alone tell about accuracy: the rivals that AOPC has to beat.

All are high where the network is certain, and so rise as it memorises, be the labels right or not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aopc_monitor.metrics.functional.agreement import checked_classes
from aopc_monitor.utilities.checks import are_finite
from aopc_monitor.utilities.statistics import accumulator_dtype

# How far rows of probabilities may be from a sum of 1: those of half precision are.
MOST_OFF = 0.02


def confidence(probabilities: Tensor) -> Tensor:
    """Probability of the predicted class of each image.

    Args:
        probabilities: (N, classes), each row sums to 1.

    Returns:
        (N,) from 1 / classes to 1.

    Raises:
        TypeError, ValueError: unless they are probabilities.

    Example:
        >>> confidence(torch.tensor([[0.25, 0.75], [1.0, 0.0]])).tolist()
        [0.75, 1.0]
    """
    return _checked_probabilities(probabilities).amax(dim=1)


def negative_entropy(probabilities: Tensor) -> Tensor:
    """Entropy of the class probabilities of each image, with the sign turned: high is certain.

    Args:
        probabilities: (N, classes), each row sums to 1; 0 log 0 counts as 0.

    Returns:
        (N,) in nats, from -log(classes) to 0.

    Raises:
        TypeError, ValueError: unless they are probabilities.

    Example:
        >>> [round(float(v), 3) for v in negative_entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))]
        [-0.693, 0.0]
    """
    probabilities = _checked_probabilities(probabilities)
    return torch.xlogy(probabilities, probabilities).sum(dim=1)


def average_thresholded_confidence(
    source_scores: Tensor, source_correct: Tensor, target_scores: Tensor
) -> float:
    """Accuracy on unlabelled images, guessed from labelled ones (Garg et al. 2022, eq. 3 and 4).

    A threshold is laid so that as large a share of the labelled source images scores below it as
    are predicted wrongly. The share of the target images at or above it is the guess.

    Args:
        source_scores: (N,) score of each labelled image, high where the network is certain:
            `confidence` or `negative_entropy`.
        source_correct: (N,) whether each of them is predicted correctly.
        target_scores: (M,) the same score of the images without labels.

    Returns:
        The guessed accuracy, 0 to 1. On the source itself it is the accuracy, unless scores at the
        threshold are tied: those all count as correct.

    Raises:
        ValueError: for no images, or not one `source_correct` for each source score.

    Example:
        >>> scores, correct = torch.tensor([0.4, 0.6, 0.8, 0.9]), torch.tensor([0, 1, 0, 1])
        >>> average_thresholded_confidence(scores, correct, torch.tensor([0.5, 0.7, 0.8, 0.9]))
        0.5
    """
    if source_scores.shape != source_correct.shape or source_scores.ndim != 1:
        raise ValueError(
            f"source_correct has shape {tuple(source_correct.shape)} and source_scores "
            f"{tuple(source_scores.shape)}; give one of each for every source image, (N,)"
        )
    for name, scores in (("source_scores", source_scores), ("target_scores", target_scores)):
        if scores.numel() == 0:
            raise ValueError(f"{name} is empty; give at least one image")
    errors = len(source_correct) - int((source_correct != 0).sum())
    if errors == len(source_scores):  # no threshold is too high
        return 0.0
    threshold = source_scores.sort().values[errors]
    return float((target_scores >= threshold).double().mean())


def nuclear_norm(probabilities: Tensor) -> Tensor:
    """Certainty and spread over classes in one number (Deng et al. 2023).

    The sum of the singular values of the matrix of probabilities, as a share of the greatest that
    it can have, sqrt(N min(N, classes)).

    Args:
        probabilities: (N, classes), each row sums to 1.

    Returns:
        Scalar in double precision: 1 where N >= classes images are certain and each class has as
        many, 1 / classes where all are undecided.

    Raises:
        TypeError, ValueError: unless they are probabilities.

    Example:
        >>> nuclear_norm(torch.eye(3))
        tensor(1., dtype=torch.float64)
        >>> nuclear_norm(torch.full((9, 3), 1 / 3))
        tensor(0.3333, dtype=torch.float64)
    """
    probabilities = _checked_probabilities(probabilities)
    values = torch.linalg.svdvals(probabilities.to(accumulator_dtype(probabilities.device)))
    return values.sum() / (len(probabilities) * min(probabilities.shape)) ** 0.5


def mano(logits: Tensor, *, power: float = 4.0, threshold: float = 5.0) -> Tensor:
    """Norm of the normalised outputs, MaNo (Xie et al. 2024).

    Where the outputs are far from even, cross-entropy to the uniform distribution above the
    threshold, rows are normalised by softmax; else the exponential gives way to 1 + q + q^2 / 2,
    its Taylor polynomial ("softrun"). The two differ, so that the number jumps at the look at which
    the threshold is crossed; `threshold=0` and `threshold=math.inf` keep to one. The polynomial is
    not as softmax: a number added to all outputs changes it.

    Args:
        logits: (N, classes) outputs before softmax.
        power: p of the norm; the paper's is 4.
        threshold: of the cross-entropy, in nats; the paper's is 5.

    Returns:
        Scalar in double precision, the mean of the p-th powers of all entries to the power of
        1 / p: from 1 / classes, where all are even, to classes^(-1 / p).

    Raises:
        TypeError, ValueError: unless logits are finite numbers, power is above 0 and threshold is
            not below.

    Example:
        >>> mano(torch.zeros(5, 10))
        tensor(0.1000, dtype=torch.float64)
        >>> mano(1000.0 * torch.eye(10))
        tensor(0.5623, dtype=torch.float64)
    """
    if not power > 0:
        raise ValueError(f"power={power!r} must be above 0")
    if not threshold >= 0:
        raise ValueError(f"threshold={threshold!r} must be at least 0")
    logits = _checked_rows(logits, "logits")
    logits = logits.to(accumulator_dtype(logits.device))
    cross_entropy = (logits.logsumexp(dim=1) - logits.mean(dim=1)).mean()
    if cross_entropy > threshold:
        shares = logits.softmax(dim=1)
    else:
        shares = 1 + logits + logits.square() / 2  # at least 1/2
        shares = shares / shares.sum(dim=1, keepdim=True)
    return shares.pow(power).mean().pow(1 / power)


def cot(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Accuracy that is possible with classes as frequent as known ones, COT (Lu et al. 2023).

    Each image is given one of the labels, each label as often as it is frequent, so that the given
    classes are as likely as can be. Their mean probability is 1 minus the paper's cost, half the
    sum of absolute differences of probabilities and label under the best transport. It is at most
    the mean confidence, and below it where classes are predicted more often than they occur.

    Args:
        probabilities: (N, classes), each row sums to 1.
        labels: (M,) classes of other images, such as of the training, of which the frequencies
            alone count. Of as many labels as images each is used once; else N that lie evenly in
            the sorted ones are taken in their place, where the authors' code draws N.

    Returns:
        Scalar in double precision, from 0 to 1: the guessed accuracy.

    Raises:
        ModuleNotFoundError: if SciPy is not installed, which assigns the labels.
        TypeError, ValueError: unless these are probabilities, and classes that they have.

    Example:
        >>> probabilities = torch.tensor([[0.9, 0.1], [0.6, 0.4]])
        >>> cot(probabilities, torch.tensor([0, 1]))
        tensor(0.6500, dtype=torch.float64)
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("cot needs SciPy: pip install scipy") from error
    probabilities = _checked_probabilities(probabilities)
    ordered = checked_classes(labels, "labels", probabilities.shape[1]).sort().values.cpu()
    count = len(probabilities)
    given = ordered[(2 * torch.arange(count) + 1) * len(ordered) // (2 * count)]
    likely = probabilities.detach().cpu().double()[:, given]
    images, of_label = linear_sum_assignment(likely.numpy(), maximize=True)
    found = likely[torch.as_tensor(images), torch.as_tensor(of_label)].mean()
    return found.to(probabilities.device, accumulator_dtype(probabilities.device))


def _checked_probabilities(probabilities: Any) -> Tensor:
    checked = _checked_rows(probabilities, "probabilities")
    sums = checked.detach().to(accumulator_dtype(checked.device)).sum(dim=1)
    off = (sums - 1).abs().max()
    if off > MOST_OFF or checked.min() < 0:
        raise ValueError(
            f"probabilities has numbers from {float(checked.min()):.4g} to "
            f"{float(checked.max()):.4g} and rows that sum to up to {float(off):.4g} more or less "
            "than 1: of logits take logits.softmax(dim=1)"
        )
    return checked


def _checked_rows(values: Any, name: str) -> Tensor:
    if not isinstance(values, Tensor) or not values.is_floating_point():
        came_in = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(f"{name} is {came_in}; wanted is a floating-point tensor (N, classes)")
    if values.ndim != 2 or values.numel() == 0:
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}; wanted is (N, classes), at least one row"
        )
    if not are_finite(values):
        raise ValueError(f"{name} holds NaN or infinite values")
    return values
