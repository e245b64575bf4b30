"""`torch.func.vmap` as a loop, so that each operation inside is one that rules can see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._functorch import apis as _apis
from torch._functorch.vmap import _process_batched_inputs
from torch.utils._pytree import _broadcast_to_and_flatten, tree_flatten, tree_unflatten

# Where vmap is carried out, whatever it was imported from.
apis: Any = _apis


@contextmanager
def vmap_as_loop() -> Iterator[None]:
    """Within this context, `vmap` calls its function once for each slice, and stacks the results.

    Inside of vmap, tensors hide that they depend on the images. Another thread that uses vmap in
    the meantime gets the same results, and waits longer for them.

    Example:
        >>> with vmap_as_loop():
        ...     torch.func.vmap(lambda v: print(v.shape) or v.sum())(torch.ones(2, 3))
        torch.Size([3])
        torch.Size([3])
        tensor([3., 3.])
    """
    batched = apis.vmap_impl

    def loop(
        function: Callable[..., Any],
        in_dims: Any,
        out_dims: Any,
        randomness: str,
        chunk_size: int | None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        size, dims, values, structure = _process_batched_inputs(in_dims, args, function)
        # A derivative inside of the network, one draw for all slices, or no slice, is no loop.
        if torch._C._are_functorch_transforms_active() or randomness == "same" or not size:
            return batched(function, in_dims, out_dims, randomness, chunk_size, *args, **kwargs)
        slices = [_slice(values, dims, number) for number in range(size)]
        found = [
            tree_flatten(function(*tree_unflatten(one, structure), **kwargs)) for one in slices
        ]
        made = found[0][1]
        parts = zip(*(results for results, _ in found), strict=True)
        ends = _broadcast_to_and_flatten(out_dims, made) or []
        return tree_unflatten([_stacked(*pair) for pair in zip(parts, ends, strict=True)], made)

    apis.vmap_impl = loop
    try:
        yield
    finally:
        apis.vmap_impl = batched


def _slice(values: list[Any], dims: list[int | None], number: int) -> list[Any]:
    pairs = zip(values, dims, strict=True)
    return [value if dim is None else value.select(dim, number) for value, dim in pairs]


def _stacked(parts: tuple[Tensor, ...], dim: int | None) -> Tensor:
    # None is for what no slice takes part in, which is the same for all.
    return parts[0] if dim is None else torch.stack(parts, dim=dim)
