"""What clean images alone tell: how confident the network is, and how often right."""

from __future__ import annotations

from torch import Tensor

from aopc_monitor.metrics.functional.clean_batch import CleanBatch
from aopc_monitor.metrics.reference_classes import ReferenceClasses
from aopc_monitor.network.scores import Score, score_function
from aopc_monitor.utilities.statistics import accumulator_dtype


def values_of_clean_images(
    clean: CleanBatch, labels: Tensor | None, score: Score
) -> dict[str, Tensor]:
    """(N,) "confidence", "accuracy" and "label_accuracy" of each image, as far as there are any.

    A score that is a value has no class, and so none of them; nor has one number per image without
    sides, or a score of the user's own of what is no row of classes.

    Args:
        clean: the network's answer to the images.
        labels: (N,) classes, (N, K) truth values of independent labels, `(N, *space)` classes of
            pixels, or None.
        score: what f is.
    """
    if not has_classes(clean, score):
        return {}
    found = {"confidence": clean.explained.over_images(confidence_of(clean, score))}
    if labels is None:
        return found
    labels = labels.to(clean.target.device)
    accuracies = _accuracies(clean, labels, score)
    return found | {name: values.to(clean.scores) for name, values in accuracies.items()}


def has_classes(clean: CleanBatch, score: Score) -> bool:
    """Whether what is explained is a class, which has a probability."""
    return clean.predicted.one is not None and score != "value" and clean.outputs.shape[1] > 1


def has_one_class(clean: CleanBatch, score: Score) -> bool:
    """Whether the network predicts one class of each image, and not of each label or pixel."""
    predicted = clean.predicted
    return has_classes(clean, score) and predicted.each is None and predicted.of_pixels is None


def can_survive(clean: CleanBatch, score: Score) -> bool:
    """Whether an image has one prediction, and one row of the batch, which may survive."""
    return has_one_class(clean, score) and not clean.explained.has_several


def agreement_table(clean: CleanBatch, score: Score, reference: ReferenceClasses) -> Tensor:
    """See `ReferenceClasses.table`.

    Raises:
        ValueError: for a network without one class of each image, or with others than those of the
            reference.
    """
    if not has_one_class(clean, score):
        raise ValueError(
            f"reference= is for networks that predict one class of each image, and under "
            f"score={score!r} this one does not: leave it out"
        )
    assert clean.predicted.one is not None
    return reference.table(clean.predicted.one, clean.outputs.shape[1])


def confidence_of(clean: CleanBatch, score: Score) -> Tensor:
    """(P,) probability of each explained class."""
    if clean.confidence is not None:
        return clean.confidence
    if score == "sigmoid":
        return clean.scores
    return score_function("probability", clean.outputs)(clean.outputs, clean.target)


def _accuracies(clean: CleanBatch, labels: Tensor, score: Score) -> dict[str, Tensor]:
    predicted, each = clean.predicted.one, clean.predicted.each
    if score == "segmentation":
        predicted = clean.predicted.of_pixels
    assert predicted is not None
    if labels.shape == predicted.shape:
        return {"accuracy": _share_that_is_right(predicted, labels, clean.outputs.shape[1])}
    if score != "sigmoid" or each is None or labels.shape != each.shape:
        return {}
    right = (each == labels).to(clean.scores)
    return {"accuracy": right.amin(dim=1), "label_accuracy": right.mean(dim=1)}


def _share_that_is_right(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """(N,) share of the labelled that is predicted so; NaN where nothing is labelled."""
    # Data sets mark what has no label by -1, -100 or 255.
    labelled = (labels >= 0) & (labels < num_classes)
    right = ((predicted.long() == labels) & labelled).view(len(labels), -1)
    count = right.sum(dim=1).to(accumulator_dtype(right.device))
    return count / labelled.view(len(labels), -1).sum(dim=1)
