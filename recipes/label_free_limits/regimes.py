"""Trainings in which accuracy and what a network believes may part."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch

from aopc_monitor.monitor import log_spaced_steps
from recipes.label_free_limits.labels import unbalanced_rows, with_wrong_labels
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
        is_asymmetric: whether each class is mistaken for the next one alone.
        rarest: images of the last class as a share of those of the first; 1 for balanced classes.
        augmented: whether training images are shifted and mirrored, where the data set wants it.
        constant_rate: whether the learning rate stays what it is, in place of one cycle.
        trained_as: the regime whose trainings are looked at in place of trainings of its own.
        starts_from: the regime whose trained network the training goes on from; None for random
            weights.
        shift: (corruption, severity) of all test images, never of the training images; or None.
        stop_at: training accuracy, on the labels as given, at which the training ends; or None.
        looks_late: whether half of the looks lie in the last two thirds of the training.
    """

    title: str
    max_epochs: int | None = None
    num_images: int | None = None
    wrong_labels: float = 0.0
    is_asymmetric: bool = False
    rarest: float = 1.0
    augmented: bool = True
    constant_rate: bool = False
    trained_as: str | None = None
    starts_from: str | None = None
    shift: tuple[str, int] | None = None
    stop_at: float | None = None
    looks_late: bool = False

    def of_training(self) -> dict[str, object]:
        """What a training depends on, where it is not the default."""
        of_looks = ("title", "trained_as", "shift", "looks_late")
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in of_looks and getattr(self, field.name) != field.default
        }


# The training whose network is looked at on corrupted images and that fine-tuning starts from.
FIXED = "clean"
_NOISE = Regime(
    "40% of the labels wrong, trained until memorised",
    max_epochs=40,
    num_images=4_000,
    wrong_labels=0.4,
    augmented=False,
    stop_at=0.95,
    looks_late=True,
)
REGIMES = {
    FIXED: Regime("clean training", max_epochs=8, num_images=5_000),
    "label_noise": _NOISE,
    "less_noise": replace(_NOISE, title="20% of the labels wrong", wrong_labels=0.2),
    "asymmetric_noise": replace(
        _NOISE, title="40% of each class labelled as the next class", is_asymmetric=True
    ),
    "constant_rate": replace(
        _NOISE, title="40% of the labels wrong, constant learning rate", constant_rate=True
    ),
    "unbalanced": replace(
        _NOISE, title="40% of the labels wrong, ten times rarer classes", rarest=0.1
    ),
    "shifted": replace(
        _NOISE, title="40% of the labels wrong, test images of less contrast",
        trained_as="label_noise", shift=("contrast", 3),
    ),
    "fine_tuning": replace(
        _NOISE, title="40% of the labels wrong, from the network of the clean training",
        starts_from=FIXED,
    ),
    "small_set": Regime(
        "small training set", max_epochs=60, num_images=1_000, augmented=False,
        constant_rate=True, looks_late=True,
    ),
    "long": Regime("clean training on more images", max_epochs=12, num_images=20_000),
}  # fmt: skip


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
    train, classes = data.train, len(data.classes)
    wanted = len(train) if regime.num_images is None else regime.num_images + source_images
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train), generator=generator)
    if regime.rarest < 1:
        order = order[unbalanced_rows(train.labels[order], regime.rarest, classes)]
        # The few that are left of a rare class are the first of it, and would all be taken.
        order = order[torch.randperm(len(order), generator=generator)]
    part = train.part(order[:wanted].sort().values, regime.augmented)
    # Seeds of their own: with one seed for both, the wrong labels would all be held out.
    label_seed, source_seed = torch.randint(2**31, (2,), generator=generator).tolist()
    part.labels = with_wrong_labels(
        part.labels, regime.wrong_labels, classes, label_seed, regime.is_asymmetric
    )
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
