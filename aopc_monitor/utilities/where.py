"""Numbers of one tensor or another."""

from __future__ import annotations

import torch
from torch import Tensor

_WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def where(mask: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """`torch.where` for tensors of one shape and type; on a CPU in a third of the time.

    There torch takes number by number, but makes operations on bits of many at once.

    Args:
        mask: where the first one counts; (M, 1, ...) or of the tensors' shape.
        first: (M, C, ...).
        second: (M, C, ...).

    Example:
        >>> where(torch.tensor([True, False]), torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
        tensor([1., 4.])
    """
    whole = _WHOLE.get(first.element_size())
    if first.device.type != "cpu" or whole is None or first.is_complex():
        return torch.where(mask, first, second)
    every_bit = mask.to(whole).neg_()
    differing = first.view(whole) ^ second.view(whole)
    return differing.bitwise_and_(every_bit).bitwise_xor_(second.view(whole)).view(first.dtype)
