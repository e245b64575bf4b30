"""Means over images with their standard errors, and differences of what was measured in pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A mean over images.

    Attributes:
        mean: the mean.
        sem: its standard error; NaN for a single image.
    """

    mean: float
    sem: float

    @classmethod
    def of(cls, values: Tensor) -> Estimate:
        """From one value per image (N,).

        Example:
            >>> print(Estimate.of(torch.tensor([1.0, 2.0, 6.0])))
            3.000 ± 1.528
        """
        mean, sem = mean_and_sem(values)
        return cls(float(mean), float(sem))

    @property
    def z(self) -> float:
        """The mean in units of its standard error: of a paired difference, Student's paired t.

        NaN where there is no error to compare with.
        """
        return self.mean / self.sem if self.sem > 0 else float("nan")

    def text(self, decimals: int) -> str:
        """The mean to some decimals, its error to one more where they are few.

        Example:
            >>> Estimate(812.4, 3.21).text(0), Estimate(0.4412, 0.0144).text(3)
            ('812 ± 3.2', '0.441 ± 0.014')
        """
        return f"{self.mean:.{decimals}f} ± {self.sem:.{max(decimals, min(decimals + 1, 3))}f}"

    def __str__(self) -> str:
        return self.text(3)


def mean_and_sem(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over images and its standard error, both (...), of values (N, ...) in double precision.

    Example:
        >>> mean_and_sem(torch.tensor([[1.0], [3.0]]))
        (tensor([2.], dtype=torch.float64), tensor([1.], dtype=torch.float64))
    """
    values = values.double()
    if len(values) == 1:  # which torch would warn of
        return values[0], torch.full_like(values[0], float("nan"))
    return values.mean(dim=0), values.std(dim=0) / len(values) ** 0.5
