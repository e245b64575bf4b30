"""The labels of the training images that lie nearest to an image, in the network's own features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aopc_monitor.metrics.functional.agreement import checked_classes
from aopc_monitor.utilities.checks import are_finite, check_positive
from aopc_monitor.utilities.statistics import accumulator_dtype


def nearest_labels(
    features: Tensor,
    training_features: Tensor,
    training_labels: Tensor,
    k: int = 1,
    chunk: int = 256,
) -> Tensor:
    """Label of the nearest training image, or the most frequent one of k (Cover & Hart 1967).

    Its agreement with the network's prediction is a signal: labels as given, wrong ones included,
    judge what the features have in common. The prediction of the network for the neighbour in place
    of its label would only ask whether the network is of one mind.

    Args:
        features: (N, D) of the images that are watched, such as pooled ones before the last layer.
        training_features: (M, D) of training images by the same network.
        training_labels: (M,) their labels as given, whole numbers from 0.
        k: neighbours. Of labels that are equally frequent among them, that of the nearer one is
            taken.
        chunk: images at once: chunk x M distances are held in memory.

    Returns:
        (N,) labels, by Euclidean distance in double precision: for the angle, normalise the
        features. Of neighbours that are equally near, but for rounding, the first one counts.

    Raises:
        TypeError: unless features are floating-point tensors, and labels whole numbers.
        ValueError: for another shape, NaN, devices that differ, or more neighbours than there are.

    Example:
        >>> training, labels = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([2, 2, 7])
        >>> nearest_labels(torch.tensor([[0.4], [4.0]]), training, labels)
        tensor([2, 7])
        >>> nearest_labels(torch.tensor([[0.4], [4.0]]), training, labels, k=3)
        tensor([2, 2])
    """
    labels = _checked(features, training_features, training_labels, k, chunk)
    dtype = accumulator_dtype(features.device)
    # From a common middle, so that no digits go where features are large and differ little.
    middle = training_features.detach().to(dtype).mean(dim=0)
    known = training_features.detach().to(dtype) - middle
    lengths = known.square().sum(dim=1)
    found = []
    for part in features.detach().split(chunk):
        # |x - t|^2 without |x|^2, which is the same for all t.
        distances = lengths - 2 * (part.to(dtype) - middle) @ known.T
        found.append(_most_frequent(labels[_nearest(distances, k)]))
    return torch.cat(found)


def _nearest(distances: Tensor, k: int) -> Tensor:
    """(n, k) columns of the least distances, the nearest first; of equal ones the first."""
    if k == 1:
        return distances.argmin(dim=1, keepdim=True)
    return distances.sort(dim=1, stable=True).indices[:, :k]


def _most_frequent(labels: Tensor) -> Tensor:
    """(n,) the label that most of each row (n, k) have; of several that which comes first."""
    counts = (labels[:, :, None] == labels[:, None]).sum(dim=2)
    return labels.gather(1, counts.argmax(dim=1, keepdim=True))[:, 0]


def _checked(
    features: Any, training_features: Any, training_labels: Any, k: int, chunk: int
) -> Tensor:
    """The labels, once all fits together."""
    check_positive("k", k)
    check_positive("chunk", chunk)
    _check_features(features, "features")
    _check_features(training_features, "training_features")
    labels = checked_classes(training_labels, "training_labels")
    count, size = training_features.shape
    if features.shape[1] != size:
        raise ValueError(
            f"training_features has {size} features of an image, and features has "
            f"{features.shape[1]}; take both from the same layer"
        )
    if len(labels) != count or k > count:
        raise ValueError(
            f"training_labels has {len(labels)} labels for {count} training_features and k={k}; "
            "wanted is one label for each, and no more neighbours than that"
        )
    devices = {features.device, training_features.device, labels.device}
    if len(devices) > 1:
        told = ", ".join(sorted(map(str, devices)))
        raise ValueError(
            f"features, training_features and training_labels are on {told}: move them"
        )
    return labels


def _check_features(features: Any, name: str) -> None:
    if not isinstance(features, Tensor) or not features.is_floating_point():
        came_in = features.dtype if isinstance(features, Tensor) else type(features).__name__
        raise TypeError(f"{name} is {came_in}; wanted is a floating-point tensor (N, D)")
    if features.ndim != 2 or features.numel() == 0:
        raise ValueError(
            f"{name} has shape {tuple(features.shape)}; wanted is (N, D), at least one image: pool "
            "or flatten what has further dimensions"
        )
    if not are_finite(features):
        raise ValueError(f"{name} holds NaN or infinite values")
