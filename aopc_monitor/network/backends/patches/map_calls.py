"""Which operation on maps a call of torch is, and where the maps are among its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aopc_monitor.network.backends.fusible_calls import link_of, pair
from aopc_monitor.network.backends.patches.map_operations import (
    LOWEST,
    ZERO,
    Bordered,
    Operation,
    Pointwise,
    Windowed,
)
from aopc_monitor.network.backends.patches.reach import Window


@dataclass(frozen=True)
class Slot:
    """Stands for a map in the arguments of a call.

    Attributes:
        number: of the map.
    """

    number: int


def operation_of(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Operation | None:
    """The operation in a call, with slots for maps among its arguments; None for others."""
    try:
        operation: Operation | None = _READERS.get(func, _activation)(func, args, kwargs)
    except TypeError:  # of other arguments
        return None
    return operation


def is_nothing(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call returns what it is given: dropout in eval mode."""

    def read(images: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> bool:
        return not training

    return func in (F.dropout, F.dropout2d) and read(*args, **kwargs)


def maps_in(value: Any) -> list[int]:
    """The numbers of the maps that arguments have slots for, in turn."""
    if isinstance(value, Slot):
        return [value.number]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [number for member in value for number in maps_in(member)]
    return []


def filled(value: Any, maps: Mapping[int, Tensor]) -> Any:
    """Arguments with maps in the place of slots."""
    if isinstance(value, Slot):
        return maps[value.number]
    if isinstance(value, Mapping):
        return {name: filled(member, maps) for name, member in value.items()}
    if type(value) in (list, tuple):
        return type(value)(filled(member, maps) for member in value)
    return value


def _pointwise(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Pointwise:
    numbers = maps_in((args, kwargs))

    def call(maps: Sequence[Tensor]) -> Tensor:
        by_number = dict(zip(numbers, maps, strict=True))
        outputs: Tensor = func(*filled(args, by_number), **filled(kwargs, by_number))
        return outputs

    return Pointwise(call=call)


def _activation(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Operation | None:
    """An activation, or BatchNorm, that did not go into a convolution."""
    link = link_of(func, args, kwargs)
    if link is None or maps_in((args, kwargs)) != maps_in(args[:1]):
        return None
    return replace(_pointwise(func, args, kwargs), in_place=link.in_place)


def _arithmetic(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Operation | None:
    """A sum or the like of maps, and of numbers."""
    members = (*args, *kwargs.values())
    if not args or not isinstance(args[0], Slot) or not all(map(_is_alike_everywhere, members)):
        return None
    numbers, in_place = maps_in((args, kwargs)), func in _IN_PLACE
    if in_place and numbers[0] in numbers[1:]:
        return None
    return replace(_pointwise(func, args, kwargs), in_place=in_place)


def _is_alike_everywhere(value: Any) -> bool:
    """Whether it is a map, or the same for all its positions: a number, or one per channel."""
    if isinstance(value, nn.Parameter) or type(value) is Tensor:
        return (
            value.ndim in (3, 4) and value.shape[-2:] == (1, 1) and value.shape[:-3] in ((), (1,))
        )
    return isinstance(value, (Slot, int, float))


def _joined(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Operation | None:
    """Maps whose channels are put one after another."""

    def read(maps: Sequence[Any], dim: int = 0) -> Operation | None:
        fits = dim in (1, -3) and all(isinstance(one, Slot) for one in maps)
        return _pointwise(func, args, kwargs) if fits else None

    return read(*args, **kwargs)


def _greatest(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Operation | None:
    def read(
        images: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Operation | None:
        if return_indices:
            return None
        size, step, apart = pair(kernel_size), pair(stride or kernel_size), pair(dilation)

        def pooled(step: Any, padding: Any, is_ceil: bool, maps: Tensor) -> Tensor:
            return F.max_pool2d(maps, size, step, padding, apart, is_ceil)

        windows = tuple(map(Window, size, step, apart, pair(padding), [ceil_mode] * 2))
        return _pooling(pooled, windows, LOWEST)

    return read(*args, **kwargs)


def _average(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Operation | None:
    def read(
        images: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Operation | None:
        size, step, beside = pair(kernel_size), pair(stride or kernel_size), pair(padding)
        if ceil_mode or divisor_override is not None or (any(beside) and not count_include_pad):
            return None

        def pooled(step: Any, padding: Any, is_ceil: bool, maps: Tensor) -> Tensor:
            return F.avg_pool2d(maps, size, step, padding)

        return _pooling(pooled, tuple(map(Window, size, step, [1, 1], beside)), ZERO)

    return read(*args, **kwargs)


def _pooling(
    pooled: Callable[[Any, Any, bool, Tensor], Tensor], windows: tuple[Window, ...], beyond: int
) -> Operation:
    vertical, horizontal = windows
    steps, paddings = zip(*((along.stride, along.padding) for along in windows), strict=True)
    whole = partial(pooled, steps, paddings, vertical.is_ceil)
    # Of windows of one, patches hold only the positions that are looked at.
    steps_in_patches = [1 if along.size == 1 else along.stride for along in windows]
    patch = partial(pooled, steps_in_patches, 0, False)
    return Windowed(windows=(vertical, horizontal), beyond=beyond, whole=whole, patch=patch)


def _bordered(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Operation | None:
    def read(
        images: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None
    ) -> Operation | None:
        if mode != "constant" or len(pad) != 4 or min(pad) < 0:
            return None
        left, right, above, below = pad
        return Bordered(sides=(left, right, above, below), value=value)

    return read(*args, **kwargs)


_IN_PLACE = {Tensor.add_, Tensor.sub_, Tensor.mul_, Tensor.div_}
_IN_PLACE |= {Tensor.__iadd__, Tensor.__isub__, Tensor.__imul__, Tensor.__itruediv__}
_OUT_OF_PLACE = {Tensor.add, Tensor.sub, Tensor.mul, Tensor.div}
_OUT_OF_PLACE |= {Tensor.__add__, Tensor.__sub__, Tensor.__mul__, Tensor.__truediv__}
_OUT_OF_PLACE |= {torch.add, torch.sub, torch.mul, torch.div}
# A call is known by its row here: what reads which operation it is, if any, from its arguments.
_READERS: dict[Any, Callable[..., Operation | None]] = {
    **dict.fromkeys(_IN_PLACE | _OUT_OF_PLACE, _arithmetic),
    torch.cat: _joined,
    torch.concat: _joined,
    F.max_pool2d: _greatest,
    torch.max_pool2d: _greatest,
    F.avg_pool2d: _average,
    F.pad: _bordered,
}
