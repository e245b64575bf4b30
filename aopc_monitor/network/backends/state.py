"""All of a network that its answers depend on, to tell whether it is still what it was."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from aopc_monitor.network.snapshot import BACK_REFERENCES, MOST_MEMBERS, NESTED_CONTAINERS, PLAIN

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def state_of(network: nn.Module) -> list[Any]:
    """Tensors, plain values, functions and hooks of all modules; nothing that holds the network.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        >>> before = [torch.clone(v) if isinstance(v, Tensor) else v for v in state_of(network)]
        >>> is_same(before, state_of(network))
        True
        >>> network[0].weight.data[0, 0] += 1  # which torch does not count as a change
        >>> is_same(before, state_of(network))
        False
    """
    return [value for module in network.modules() for value in _of_module(module)]


def settings_of(network: nn.Module) -> list[Any]:
    """Its state but for the tensors: what a schedule may change between two batches."""
    return [value for value in state_of(network) if not isinstance(value, Tensor)]


def is_same(before: Iterable[Any], now: Iterable[Any]) -> bool:
    """Whether two states are equal, tensors bit by bit."""
    try:
        return all(_equal(*pair) for pair in zip(before, now, strict=True))
    except ValueError:  # of other lengths
        return False


def _of_module(module: nn.Module) -> Iterator[Any]:
    yield type(module)
    own = vars(nn.Module())
    yield from _of_value({**module._parameters, **module._buffers}, 0)
    for name in _HOOKS:  # their keys are never used twice
        yield tuple(vars(module).get(name, ()))
    for name, value in vars(module).items():
        if name == "training" or (name not in own and name not in BACK_REFERENCES):
            yield name
            yield from _of_value(value, NESTED_CONTAINERS)


def _of_value(value: Any, depth: int) -> Iterator[Any]:
    if isinstance(value, Tensor):
        yield value.detach()
    elif isinstance(value, PLAIN):
        yield value
    elif isinstance(value, MethodType):
        yield weakref.ref(value.__func__)
    elif isinstance(value, FunctionType):
        yield weakref.ref(value)
    elif isinstance(value, (dict, list, tuple)) and depth >= 0 and len(value) <= MOST_MEMBERS:
        yield tuple(value) if isinstance(value, dict) and _are_plain(value) else len(value)
        for member in value.values() if isinstance(value, dict) else value:
            yield from _of_value(member, depth - 1)


def _are_plain(values: Iterable[Any]) -> bool:
    return all(isinstance(value, PLAIN) for value in values)


def _equal(before: Any, now: Any) -> bool:
    if type(before) is not type(now):
        return False
    if not isinstance(before, Tensor):
        return bool(before == now)
    kinds = [(t.shape, t.dtype, t.device, t.layout, t.is_quantized) for t in (before, now)]
    if kinds[0] != kinds[1]:
        return False
    if before.layout is not torch.strided:
        before, now = before.to_dense(), now.to_dense()
    if before.is_floating_point():  # as whole numbers, among which NaN is equal to itself
        whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
        before, now = (t.view(whole[t.element_size()]) for t in (before, now))
    return torch.equal(before, now)
