"""What class probabilities alone tell about accuracy: the rivals that AOPC has to beat."""

from __future__ import annotations

import torch
from torch import Tensor


def confidence(probabilities: Tensor) -> Tensor:
    """Probability of the predicted class of each image.

    Args:
        probabilities: (N, classes), each row sums to 1.

    Returns:
        (N,) from 1 / classes to 1.

    Example:
        >>> confidence(torch.tensor([[0.25, 0.75], [1.0, 0.0]])).tolist()
        [0.75, 1.0]
    """
    return probabilities.amax(dim=1)


def negative_entropy(probabilities: Tensor) -> Tensor:
    """Entropy of the class probabilities of each image, with the sign turned: high is certain.

    Args:
        probabilities: (N, classes), each row sums to 1; 0 log 0 counts as 0.

    Returns:
        (N,) in nats, from -log(classes) to 0.

    Example:
        >>> [round(float(v), 3) for v in negative_entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))]
        [-0.693, 0.0]
    """
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
