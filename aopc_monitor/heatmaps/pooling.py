"""From one number per channel and location to one per location."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aopc_monitor.perturbation.input_kinds import kind_of

# Torch adds up to four numbers in turn, as is done here plane by plane: with the channels last, its
# own sum over so few takes three times as long.
FEW_CHANNELS = 4


def _sum(values: Tensor) -> Tensor:
    if values.shape[1] > FEW_CHANNELS:
        return values.sum(dim=1)
    first, *others = values.unbind(dim=1)
    return sum(others, start=first)


POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": _sum,
    "l2": lambda values: torch.linalg.vector_norm(values, ord=2.0, dim=1),
    "linf": lambda values: torch.linalg.vector_norm(values, ord=float("inf"), dim=1),
}
NORMS = ("l2", "linf")


def pooled(values: Tensor, how: str) -> Tensor:
    """Pool over channels: `(N, C, *space)` to `(N, *space)`.

    The features of a table are its locations, and each has one number: (N, F) stays (N, F).

    Args:
        values: as large as the inputs.
        how: "sum", or a norm (Samek et al. 2017, eq. 3): "l2" or "linf".

    Example:
        >>> signal = torch.tensor([3.0, -4.0]).view(1, 2, 1)
        >>> [pooled(signal, how).item() for how in ("sum", "l2", "linf")]
        [-1.0, 5.0, 4.0]
        >>> pooled(torch.tensor([[3.0, -4.0]]), "l2")
        tensor([[3., 4.]])
    """
    return POOLS[how](values if kind_of(values).has_channels else values[:, None])


def per_channel(numbers: Tensor, inputs: Tensor) -> Tensor:
    """Numbers (C,), one per channel or feature, shaped to go with the inputs.

    Example:
        >>> per_channel(torch.zeros(3), torch.zeros(2, 3, 8, 9)).shape
        torch.Size([3, 1, 1])
    """
    return numbers.reshape(-1, *[1] * (inputs.ndim - 2))


def check_norm(norm: str) -> None:
    """Raise ValueError unless the norm is known."""
    if norm not in NORMS:
        raise ValueError(f"norm={norm!r} is unknown: choose one of {', '.join(NORMS)}")
