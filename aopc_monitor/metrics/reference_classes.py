"""What a fixed reference predicts of a set of images, to be compared with a network's predictions.

It never changes, so that it is found once, and a look at the network costs a table of counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aopc_monitor.utilities.statistics import accumulator_dtype


@dataclass(frozen=True)
class ReferenceClasses:
    """The reference's classes of images, on the CPU.

    Attributes:
        classes: (N,) the class of each image.
        named: (R,) the classes that it predicts of any image, in their order; R is at most N,
            however many classes there are.
        num_classes: K, as far as it is known.
    """

    classes: Tensor
    named: Tensor
    num_classes: int | None = None

    @classmethod
    def of(cls, classes: Tensor, num_classes: int | None = None) -> ReferenceClasses:
        """Of the whole set (N,)."""
        return cls(classes, classes.unique(), num_classes)

    def part(self, rows: Tensor | Sequence[int]) -> ReferenceClasses:
        """Some of the images, compared by the classes of all: tables of parts add up."""
        return replace(self, classes=self.classes[torch.as_tensor(rows)])

    @property
    def fingerprint(self) -> str:
        """The same where the same classes were predicted, in the same order of images."""
        content = self.classes.contiguous().view(torch.uint8).numpy().tobytes()
        return hashlib.blake2b(content, digest_size=8).hexdigest()

    def table(self, predicted: Tensor, num_classes: int) -> Tensor:
        """How many images have which class in a network's predictions, and which here.

        Args:
            predicted: (N,) the network's classes of the images.
            num_classes: of the network.

        Returns:
            (R + 1, R + 1) counts in double precision: row i, column j has the images of the i-th
            named class in the network's predictions and the j-th here. In the last row are all that
            are not named, the last column is empty: Cohen's kappa and its standard error are those
            of the table of all classes.

        Raises:
            ValueError: for a network of other classes.

        Example:
            >>> reference = ReferenceClasses.of(torch.tensor([5, 2, 5]))
            >>> reference.table(torch.tensor([5, 9, 5]), num_classes=10).tolist()
            [[0.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]
        """
        self._check(num_classes)
        named = self.named.to(predicted.device)
        size = len(named) + 1
        place = torch.searchsorted(named, predicted).clamp_max(size - 2)
        row = torch.where(named[place] == predicted, place, size - 1)
        column = torch.searchsorted(self.named, self.classes).to(predicted.device)
        counts = (row * size + column).bincount(minlength=size * size)
        return counts.view(size, size).to(accumulator_dtype(predicted.device))

    def _check(self, num_classes: int) -> None:
        if self.num_classes is not None and self.num_classes != num_classes:
            raise ValueError(
                f"reference= has {self.num_classes} classes, and the network {num_classes}: give "
                "one that was fitted on the network's classes"
            )
        if int(self.named[-1]) >= num_classes:
            raise ValueError(
                f"reference= predicts class {int(self.named[-1])}, and the network has "
                f"{num_classes} classes, counted from 0"
            )
