"""Trainings in which accuracy and what a network believes may part."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aopc_monitor.monitor import log_spaced_steps
from recipes.shared.data.labelled_images import ImageData, LabelledImages, hold_out
from recipes.shared.training.fitting import FIRST_STEP


@dataclass(frozen=True)
class Regime:
    """One way to train.

    Attributes:
        title: for people.
        max_epochs: the data set's own plan if None.
        num_images: training images at most; all if None.
        wrong_labels: share of the training labels that are replaced by another class.
        augmented: whether training images are shifted and mirrored, where the data set wants it.
        stop_at: training accuracy, on the labels as given, at which the training ends; or None.
        looks_late: whether half of the looks lie in the last two thirds of the training.
    """

    title: str
    max_epochs: int | None = None
    num_images: int | None = None
    wrong_labels: float = 0.0
    augmented: bool = True
    stop_at: float | None = None
    looks_late: bool = False


REGIMES = {
    "clean": Regime("clean training"),
    "label_noise": Regime(
        "40% of the labels wrong, trained until memorised",
        max_epochs=60,
        num_images=10_000,
        wrong_labels=0.4,
        augmented=False,
        stop_at=0.95,
        looks_late=True,
    ),
    "small_set": Regime(
        "small training set", max_epochs=100, num_images=2_000, augmented=False, looks_late=True
    ),
}


def with_wrong_labels(labels: Tensor, share: float, num_classes: int, seed: int) -> Tensor:
    """Labels of which a share is replaced by another class, each other class as likely.

    Args:
        labels: (N,) class indices.
        share: 0 to 1; that share of N, rounded, is replaced.
        num_classes: number of classes, at least 2.
        seed: which labels, and by what.

    Returns:
        (N,) class indices.

    Example:
        >>> before = torch.zeros(10, dtype=torch.long)
        >>> int((with_wrong_labels(before, 0.4, 3, seed=0) != before).sum())
        4
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    shifts = torch.randint(1, num_classes, (len(rows),), generator=generator)
    changed = labels.clone()
    changed[rows] = (labels[rows] + shifts) % num_classes
    return changed


def data_of_regime(
    regime: Regime, data: ImageData, source_images: int, seed: int
) -> tuple[ImageData, LabelledImages]:
    """The images that a regime trains on, and a labelled source held out of the training.

    The source has labels like those of the training images, wrong ones too: nobody has better
    labels for calibration than for training. Test labels stay as they are.

    Args:
        regime: how to train.
        data: all images.
        source_images: how many labelled images are held out.
        seed: of every choice.

    Raises:
        ValueError: unless some training images are left.
    """
    train = data.train
    wanted = len(train) if regime.num_images is None else regime.num_images + source_images
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train), generator=generator)
    part = train.part(order[:wanted].sort().values, regime.augmented)
    # Seeds of their own: with one seed for both, the wrong labels would all be held out.
    label_seed, source_seed = torch.randint(2**31, (2,), generator=generator).tolist()
    part.labels = with_wrong_labels(part.labels, regime.wrong_labels, len(data.classes), label_seed)
    return hold_out(replace(data, train=part), source_images, source_seed)


def look_steps(last_step: int, count: int, looks_late: bool = False) -> list[int]:
    """The steps at which a training is looked at, beside its start.

    Args:
        last_step: of the training, at least 2.
        count: how many looks; fewer only if there are not so many steps.
        looks_late: half of them evenly spaced in logarithm up to a third of the training, the rest
            evenly spaced from there on: what a network memorises it memorises late.

    Example:
        >>> look_steps(3000, 4), look_steps(3000, 8, looks_late=True)
        ([20, 106, 565, 3000], [20, 74, 271, 1000, 1500, 2000, 2500, 3000])
    """
    early = max(last_step // 3, 2) if looks_late else last_step
    log_spaced = max(count // 2 if looks_late else count, 2)
    steps = log_spaced_steps(early, log_spaced, min(FIRST_STEP, early // 2))
    late = max(count - len(steps), 1)
    linear = [early + round((last_step - early) * k / late) for k in range(1, late + 1)]
    return sorted({*steps, *linear})
