"""Sums and means over images: the type they are kept in, and the standard errors that follow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class MeanAndError:
    """A mean over images.

    Attributes:
        mean: the mean.
        sem: its standard error; NaN for a single image.
    """

    mean: float
    sem: float

    @classmethod
    def of(cls, values: Tensor) -> MeanAndError:
        """From one value per image (N,).

        Example:
            >>> print(MeanAndError.of(torch.tensor([1.0, 2.0, 6.0])))
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
            >>> MeanAndError(812.4, 3.21).text(0), MeanAndError(0.4412, 0.0144).text(3)
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


def error_of_mean(values: Tensor) -> Tensor:
    """Scalar standard error of the mean of values (N,); NaN for a single one, or none.

    Example:
        >>> error_of_mean(torch.tensor([1.0, 3.0])), error_of_mean(torch.tensor([1.0]))
        (tensor(1.), tensor(nan))
    """
    if len(values) < 2:  # which torch would warn of
        return values.new_full((), float("nan"))
    return values.std() / len(values) ** 0.5


def accumulator_dtype(device: torch.device) -> torch.dtype:
    """Type for sums and means on a device: float64, or float32 where float64 does not exist."""
    return torch.float32 if device.type == "mps" else torch.float64


def standard_error(count: Tensor, total: Tensor, total_of_squares: Tensor) -> Tensor:
    """Standard error of a mean, from sums; NaN for a single value, which has none.

    Example:
        >>> values = torch.tensor([1.0, 2.0, 6.0])
        >>> standard_error(torch.tensor(3), values.sum(), values.square().sum())
        tensor(1.5275)
    """
    variance = (total_of_squares / count - (total / count).square()).clamp_min(0)
    return (variance / (count - 1)).sqrt()
