"""Which labels and how many images of each class a training is given."""

from __future__ import annotations

import torch
from torch import Tensor


def with_wrong_labels(
    labels: Tensor, share: float, num_classes: int, seed: int, is_asymmetric: bool = False
) -> Tensor:
    """Labels of which a share is replaced by another class.

    Args:
        labels: (N,) class indices.
        share: 0 to 1; that share of N, rounded, is replaced.
        num_classes: number of classes, at least 2.
        seed: which labels, and by what.
        is_asymmetric: whether each class is taken for the next one alone, so that the wrong labels
            are a rule that can be learned; else each other class is as likely.

    Returns:
        (N,) class indices.

    Example:
        >>> before = torch.zeros(10, dtype=torch.long)
        >>> int((with_wrong_labels(before, 0.4, 3, seed=0) != before).sum())
        4
        >>> sorted(with_wrong_labels(before, 0.2, 3, seed=0, is_asymmetric=True).tolist())
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    shifts = torch.randint(1, num_classes, (len(rows),), generator=generator)
    if is_asymmetric:
        shifts = torch.ones_like(shifts)
    changed = labels.clone()
    changed[rows] = (labels[rows] + shifts) % num_classes
    return changed


def unbalanced_rows(labels: Tensor, rarest: float, num_classes: int) -> Tensor:
    """The rows that are left when each class is rarer than the one before.

    Args:
        labels: (N,) class indices in a random order.
        rarest: what is left of the last class, as a share of the first, which is kept whole; the
            shares in between fall geometrically.
        num_classes: number of classes, at least 2.

    Returns:
        Row numbers in their order.

    Example:
        >>> labels = torch.arange(30) % 3
        >>> labels[unbalanced_rows(labels, 0.25, 3)].bincount().tolist()
        [10, 5, 2]
    """
    kept = []
    for k in range(num_classes):
        rows = (labels == k).nonzero()[:, 0]
        share = rarest ** (k / (num_classes - 1))
        kept.append(rows[: max(round(share * len(rows)), 1)])
    return torch.cat(kept).sort().values
