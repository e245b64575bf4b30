"""Targets: which classes of an image are explained, each by itself.

By default that is the prediction on the clean image. Where there are several of an image, what is
found of it is the mean over them, so that images count alike, however many labels they have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from aopc_monitor.utilities.checks import check_target
from aopc_monitor.utilities.error_text import said_by, shortened

TargetFunction: TypeAlias = Callable[[Tensor], Tensor]
# How targets are chosen before there are outputs; None is the prediction.
TargetChoice: TypeAlias = "Literal['predicted'] | TargetFunction | None"
Target: TypeAlias = "Tensor | Literal['predicted'] | TargetFunction | None"


def check_target_choice(target: object) -> None:
    """Raise ValueError unless `target` is a way to choose targets for any batch."""
    if target is not None and target != "predicted" and not callable(target):
        told = tuple(target.shape) if isinstance(target, Tensor) else repr(target)
        raise ValueError(
            f'target={told} is no way to choose targets of any batch: give "predicted", or a '
            "callable from outputs to (N,) classes or (N, K) truth values; the targets of one "
            "batch go with its images"
        )


@dataclass(frozen=True)
class Predicted:
    """What a network predicts of each clean image.

    Attributes:
        one: (N,) the class of each; None where outputs have none, such as several values.
        each: (N, K) all that is predicted of each, where that may be several classes.
        of_pixels: (N, *space) the class of each pixel, where it has one.
    """

    one: Tensor | None
    each: Tensor | None = None
    of_pixels: Tensor | None = None

    def each_or_one(self) -> Tensor:
        """(N, K) all that is predicted, or the likeliest where that is nothing."""
        assert self.each is not None
        assert self.one is not None
        likeliest = torch.zeros_like(self.each).scatter(1, self.one[:, None], True)
        return self.each | (likeliest & ~self.each.any(dim=1, keepdim=True))


def chosen_target(target: Target, outputs: Tensor, predicted: Predicted) -> Tensor:
    """Which classes are explained.

    Args:
        target: what was given for these images: (N,) classes; (N, K) truth values, of which each
            true one is explained; "predicted", all that is predicted where that may be several, or
            the likeliest where that is nothing; a function from outputs to one of these; or None
            for the prediction.
        outputs: (N, K, ...) of the clean images.
        predicted: what the network predicts of them.

    Returns:
        (N,) int64, (N, K) bool, or a floating-point tensor (N, ...), which is for a score of the
        user's own.

    Raises:
        ValueError, TypeError: for a target that does not fit.

    Example:
        >>> outputs = torch.tensor([[1.0, 4.0, 2.0]])
        >>> chosen_target(lambda outputs: outputs > 1.5, outputs, Predicted(torch.tensor([1])))
        tensor([[False,  True,  True]])
    """
    if isinstance(target, str) and predicted.each is not None:
        return predicted.each_or_one()
    if target is None or isinstance(target, str):
        if predicted.one is None:
            raise ValueError(
                f"target is missing: of outputs {tuple(outputs.shape)} nothing tells which one is "
                "to be explained: give target=, the number of a column for each image, or "
                "output_fn=lambda answer: answer[:, 0] for one of them"
            )
        return predicted.one
    if not isinstance(target, Tensor):
        target = _asked(target, outputs)
    return _checked(target, outputs)


def _asked(function: TargetFunction, outputs: Tensor) -> Any:
    try:
        return function(outputs.detach())
    except Exception as error:  # whatever a user's function may raise
        raise ValueError(
            f"target= raised {type(error).__name__}: {shortened(said_by(error))} on outputs of "
            f"shape {tuple(outputs.shape)}"
        ) from error


def _checked(target: Any, outputs: Tensor) -> Tensor:
    count, columns = outputs.shape[:2]
    if isinstance(target, Tensor) and target.is_floating_point() and len(target) == count:
        return target.detach().to(outputs.device, copy=True)
    if not isinstance(target, Tensor) or target.ndim != 2:
        check_target(target, count, columns)
        return target.detach().to(outputs.device, torch.long, copy=True)
    if target.shape != (count, columns):
        raise ValueError(
            f"target is {tuple(target.shape)}; wanted is a class for each image, ({count},), or a "
            f"truth value for each image and class, ({count}, {columns})"
        )
    if not ((target == 0) | (target == 1)).all():
        raise ValueError(
            f"target of shape {tuple(target.shape)} holds numbers from {int(target.min())} to "
            f"{int(target.max())}; wanted are truth values, 0 and 1"
        )
    return target.detach().to(outputs.device, torch.bool, copy=True)


@dataclass(frozen=True)
class Explanations:
    """What is explained of a batch: a class of an image each, in the order of the images.

    Attributes:
        target: (P,) the classes.
        image: (P,) which image each is of.
        given: what they come from, (N,), (N, K) or, of a score of the user's own, (N, ...).
    """

    target: Tensor
    image: Tensor
    given: Tensor

    @classmethod
    def of(cls, given: Tensor) -> Explanations:
        """Of a target as `chosen_target` returns it.

        Example:
            >>> labels = torch.tensor([[True, False, True], [False, True, False]])
            >>> explanations = Explanations.of(labels)
            >>> explanations.target.tolist(), explanations.image.tolist()
            ([0, 2, 1], [0, 0, 1])
            >>> explanations.over_images(torch.tensor([0.2, 0.4, 0.6]))
            tensor([0.3000, 0.6000])
        """
        if given.dtype == torch.bool:
            image, target = given.nonzero(as_tuple=True)
            return cls(target, image, given)
        image = torch.arange(len(given), device=given.device)
        return cls(torch.zeros_like(image) if given.is_floating_point() else given, image, given)

    @property
    def has_several(self) -> bool:
        """Whether an image may have another number of them than one."""
        return self.given.dtype == torch.bool

    def rows_of(self, values: Tensor) -> Tensor:
        """(P, ...) of values (N, ...) of images."""
        return values[self.image.to(values.device)] if self.has_several else values

    def over_images(self, values: Tensor) -> Tensor:
        """(N, ...) means over the explanations of each image of values (P, ...).

        NaN is no value; an image that has none has NaN.
        """
        if not self.has_several:
            return values
        image = self.image.to(values.device)
        sums = values.new_zeros(len(self.given), *values.shape[1:])
        counts = sums.index_add(0, image, (~values.isnan()).to(values))
        return sums.index_add(0, image, values.nan_to_num()) / counts

    def likeliest(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """One explanation of each image that has any, by (P,) scores: its row, and the image."""
        images = self.image.unique()
        if not self.has_several:
            return images, images
        rows = [(self.image == i).nonzero()[:, 0] for i in images]
        return torch.stack([r[scores[r].argmax()] for r in rows]), images

    def heatmaps_of(self, heatmaps: Any, images: Tensor) -> Any:
        """(P, *space) of heatmaps of N images that were given: one of each class, or one for all.

        Args:
            heatmaps: `(N, K, *space)`, of which those of the explained classes count, or
                `(N, *space)`.
            images: `(N, C, *space)`, or (N, F) and (N, T), which have no channels.
        """
        if not self.has_several or not isinstance(heatmaps, Tensor):
            return heatmaps
        image, target = self.image.to(heatmaps.device), self.target.to(heatmaps.device)
        # A heatmap of each class has one dimension more than the space, and so has one of (N, F).
        if heatmaps.ndim == max(images.ndim, 3) and heatmaps.shape[:2] == self.given.shape:
            return heatmaps[image, target]
        return heatmaps[image] if len(heatmaps) == len(self.given) else heatmaps
