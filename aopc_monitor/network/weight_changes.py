"""Whether what was found out about a network is about the weights that it has."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


def weight_changes(tensors: Iterable[Tensor]) -> int:
    """How often tensors were written to in place, as far as torch counts: it never falls.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(2, 2)
        >>> before = weight_changes(layer.parameters())
        >>> with torch.no_grad():
        ...     _ = layer.weight.mul_(2)
        >>> weight_changes(layer.parameters()) - before
        1
    """
    # Those that were made in inference mode do not count them.
    return sum(0 if t.is_inference() else t._version for t in tensors)
