"""How far two predictions of the same images agree: of a network, a reference, an earlier look.

Accuracy is the agreement with the true labels. Where these are not at hand, the agreement with
something else that knows of them, if only a little, may stand in for it. Classes enter as they
were decided, without probabilities, which rise when a network memorises.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aopc_monitor.network.outputs import OutputError, class_outputs
from aopc_monitor.utilities.batches import told_of
from aopc_monitor.utilities.checks import check_positive, plain_tensor
from aopc_monitor.utilities.error_text import said_by
from aopc_monitor.utilities.statistics import accumulator_dtype


def contingency(a: Tensor, b: Tensor, num_classes: int | None = None) -> Tensor:
    """Table of how many images have which class in `a` and which in `b`.

    Args:
        a: (N,) class of each image, whole numbers from 0.
        b: (N,) the same images' classes from elsewhere.
        num_classes: K, the rows and columns; as many as the highest class asks for if not given.

    Returns:
        (K, K) counts in double precision: row i, column j has the images of class i in `a` and j
        in `b`. Tables of several batches add up.

    Raises:
        TypeError: unless `a` and `b` are tensors of whole numbers.
        ValueError: for no images, another shape, different lengths or devices, or a class outside
            of 0 to K - 1.

    Example:
        >>> contingency(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]))
        tensor([[1., 1.],
                [0., 1.]], dtype=torch.float64)
    """
    a, b = checked_pair(a, b, num_classes)
    size = num_classes or int(torch.maximum(a.max(), b.max())) + 1
    counts = (a * size + b).bincount(minlength=size * size)
    return counts.view(size, size).to(accumulator_dtype(a.device))


def cohen_kappa(a: Tensor, b: Tensor, num_classes: int | None = None) -> Tensor:
    """Agreement corrected for chance (Cohen 1960, eq. 1).

    (p_o - p_e) / (1 - p_e): the share p_o of images with the same class in both, beside the share
    p_e that predictions as frequent, but unrelated, would have in common.

    Args:
        a: (N,) class of each image, whole numbers from 0.
        b: (N,) the same images' classes from elsewhere. It makes no difference which is which.
        num_classes: how many there are, for the check alone: classes that do not occur add nothing.

    Returns:
        Scalar in double precision: 1 for the same predictions, 0 for unrelated ones, below 0 where
        they agree less than by chance; NaN where all images have one and the same class in both.

    Raises:
        TypeError, ValueError: as `contingency`.

    Example:
        >>> cohen_kappa(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 0]))
        tensor(0.5000, dtype=torch.float64)
    """
    return kappa_of_table(_table(a, b, num_classes))


def cohen_kappa_standard_error(a: Tensor, b: Tensor, num_classes: int | None = None) -> Tensor:
    """Standard error of `cohen_kappa` over images (Fleiss, Cohen & Everitt 1969).

    Their large-sample variance: that of the first-order change of kappa with the shares of the
    table. It is 0 at full agreement, where the sample shows no variation to go by.

    Args:
        a: (N,) class of each image, whole numbers from 0.
        b: (N,) the same images' classes from elsewhere.
        num_classes: as in `cohen_kappa`.

    Returns:
        Scalar in double precision; NaN where kappa is.

    Raises:
        TypeError, ValueError: as `contingency`.

    Example:
        >>> cohen_kappa_standard_error(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 0]))
        tensor(0.3750, dtype=torch.float64)
    """
    return kappa_standard_error_of_table(_table(a, b, num_classes))


def mutual_information(a: Tensor, b: Tensor) -> Tensor:
    """What the classes in `a` tell of those in `b`, in nats (Shannon 1948).

    Unlike kappa it asks for no common names of the classes. That of unrelated predictions is not 0
    but about (K - 1)^2 / 2N for K classes that occur: compare values of the same images.

    Args:
        a: (N,) class of each image, whole numbers from 0.
        b: (N,) the same images' classes from elsewhere. It makes no difference which is which.

    Returns:
        Scalar in double precision, from 0 to the lesser entropy of the two.

    Raises:
        TypeError, ValueError: as `contingency`.

    Example:
        >>> mutual_information(torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 0, 0]))
        tensor(0.6931, dtype=torch.float64)
    """
    share = _table(a, b, None)
    share = share / share.sum()
    entropies = [torch.special.entr(share.sum(dim=side)).sum() for side in (0, 1)]
    return (sum(entropies) - torch.special.entr(share).sum()).clamp_min(0)


def disagreement(a: Tensor, b: Tensor) -> Tensor:
    """Share of images whose class is another in `b` than in `a`.

    Between two looks at one network it is the churn of its predictions; of training images, Label
    Wave (Yuan et al. 2024) stops where it is least. Against labels it is the error.

    Args:
        a: (N,) class of each image, whole numbers from 0.
        b: (N,) the same images' classes from elsewhere.

    Returns:
        Scalar in double precision, from 0 to 1: low where much is agreed.

    Raises:
        TypeError, ValueError: as `contingency`.

    Example:
        >>> disagreement(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 0]))
        tensor(0.2500, dtype=torch.float64)
    """
    a, b = checked_pair(a, b)
    return (a != b).to(accumulator_dtype(a.device)).mean()


def kappa_of_table(table: Tensor) -> Tensor:
    """Cohen's kappa of a table of counts (K, K), as `contingency` gives it."""
    count = table.sum()
    # In counts, which are exact: 0 / 0 where both have one class, and nothing else is.
    by_chance = table.sum(dim=0) @ table.sum(dim=1)
    return (count * table.trace() - by_chance) / (count.square() - by_chance)


def kappa_standard_error_of_table(table: Tensor) -> Tensor:
    """Large-sample standard error of Cohen's kappa of a table of counts (K, K)."""
    count = table.sum()
    share = table / count
    of_a, of_b = share.sum(dim=1), share.sum(dim=0)
    disagreed, not_by_chance = 1 - share.trace(), 1 - of_a @ of_b
    same = torch.eye(len(share), dtype=share.dtype, device=share.device)
    # The derivative of kappa by each share p_ij: d p_e / d p_ij is the share of i in b, of j in a.
    slope = same * not_by_chance - disagreed * (of_b[:, None] + of_a)
    slope = slope / not_by_chance.square()
    variance = (share * (slope - (share * slope).sum()).square()).sum()
    return torch.where(not_by_chance > 0, (variance / count).sqrt(), float("nan"))


def checked_pair(a: Any, b: Any, num_classes: int | None = None) -> tuple[Tensor, Tensor]:
    """Both as (N,) int64.

    Raises:
        TypeError, ValueError: as `contingency`.
    """
    a, b = checked_classes(a, "a", num_classes), checked_classes(b, "b", num_classes)
    if len(a) != len(b):
        raise ValueError(f"b has {len(b)} classes, and a {len(a)}; give both of the same images")
    if a.device != b.device:
        raise ValueError(f"b is on {b.device}, a on {a.device}: move one of them")
    return a, b


def checked_classes(classes: Any, name: str, num_classes: int | None = None) -> Tensor:
    """Classes of images as (N,) int64.

    Args:
        classes: what came in.
        name: of the argument that it came in as.
        num_classes: how many there are, if that is known.

    Raises:
        TypeError: unless they are a tensor of whole numbers.
        ValueError: for no images, another shape, or a class outside of 0 to `num_classes` - 1.
    """
    if num_classes is not None:
        check_positive("num_classes", num_classes)
    if not isinstance(classes, Tensor):
        raise TypeError(f"{name} is a {type(classes).__name__}; wanted is a tensor of classes (N,)")
    if classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool:
        raise TypeError(
            f"{name} is {classes.dtype}, of shape {tuple(classes.shape)}; wanted are class indices "
            "(N,), whole numbers from 0: of scores (N, classes) take scores.argmax(dim=1)"
        )
    if classes.ndim != 1 or len(classes) == 0:
        raise ValueError(
            f"{name} has shape {tuple(classes.shape)}; wanted is one class index for each image, "
            "(N,), of at least one image: masks and several labels for an image have no one class"
        )
    least, highest = int(classes.min()), int(classes.max())
    if least < 0 or (num_classes is not None and highest >= num_classes):
        there_are = "" if num_classes is None else f", of which there are {num_classes}"
        raise ValueError(
            f"{name} holds classes from {least} to {highest}; they are counted from 0{there_are}: "
            "leave out images without a label"
        )
    return classes.detach().long()


def tensor_of_reference(answer: Any, num_images: int) -> Tensor:
    """The scores or classes in what a reference returns, whatever form they have.

    Args:
        answer: a tensor, an array, a list of numbers; or what a network may return: an object or a
            dict with scores of a usual name, a tuple.
        num_images: N.

    Raises:
        TypeError: if there are none.

    Example:
        >>> tensor_of_reference([2, 0, 1], 3)
        tensor([2, 0, 1])
        >>> tensor_of_reference({"logits": torch.zeros(3, 10)}, 3).shape
        torch.Size([3, 10])
    """
    if isinstance(answer, Tensor):
        return plain_tensor(answer)
    try:
        return plain_tensor(class_outputs(answer, num_images))
    except OutputError:  # no network's answer
        pass
    try:
        return plain_tensor(torch.as_tensor(answer))
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"reference returned {told_of(answer)} for {num_images} images; wanted are scores (N, "
            f"classes) or classes (N,), in a tensor, an array or a list. {said_by(error)}"
        ) from error


def classes_of_reference(answer: Any, num_images: int, num_classes: int) -> Tensor:
    """What a reference says of images, as (N,) int64 classes.

    Args:
        answer: scores (N, classes), of which the greatest decides, or (N,) classes; see
            `tensor_of_reference`.
        num_images: N.
        num_classes: how many classes the network has.

    Raises:
        TypeError, ValueError: for anything else, or another number of classes or images.

    Example:
        >>> classes_of_reference(torch.tensor([[0.2, 0.9], [3.0, 1.0]]), 2, num_classes=2)
        tensor([1, 0])
    """
    answer = tensor_of_reference(answer, num_images)
    if answer.is_floating_point() and answer.ndim == 2:
        if answer.shape[1] != num_classes:
            raise ValueError(
                f"reference returned scores of {answer.shape[1]} classes, and the network has "
                f"{num_classes}: fit it on the classes of the network, num_classes={num_classes}"
            )
        if answer.isnan().any():
            raise ValueError("reference returned NaN, which decides for no class")
        answer = answer.argmax(dim=1)
    classes = checked_classes(answer, "reference(images)", num_classes)
    if len(classes) != num_images:
        raise ValueError(f"reference returned {len(classes)} answers to {num_images} images")
    return classes


def _table(a: Tensor, b: Tensor, num_classes: int | None) -> Tensor:
    """Their table over the classes that occur, however high their numbers."""
    a, b = checked_pair(a, b, num_classes)
    renamed = torch.cat([a, b]).unique(return_inverse=True)[1]
    return contingency(*renamed.split(len(a)))
