"""One call of a torch operation: its plain name, its arguments, and whether it works in place."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from torch import Tensor

from aopc_monitor.heatmaps.engine.operation_names import Operation, facts_of


class Call:
    """One call of a torch operation on the way from the images to the class scores.

    Attributes:
        operation: the torch function.
        name: its plain name: "relu" for `F.relu`, `torch.relu_` and `Tensor.relu` alike.
        args: positional arguments.
        kwargs: keyword arguments.
        in_place: whether the operation writes into its first argument.
    """

    __slots__ = ("_tensors", "args", "in_place", "kwargs", "name", "operation")

    def __init__(self, operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.operation = operation
        self.args = args
        self.kwargs = kwargs
        self.name, self.in_place, place = facts_of(operation)
        if place is not None:
            self.in_place = bool(self.argument(place, "inplace", False))
        self._tensors: list[Tensor] | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments."""
        if self._tensors is None:
            found: list[Tensor] = []
            _collect(self.args, found)
            if self.kwargs:
                _collect(self.kwargs, found)
            self._tensors = found
        return self._tensors

    def run(self) -> Any:
        """What the operation returns; its arguments stay as they are, also if it is in place."""
        args, kwargs = self.args, self.kwargs
        if not self.in_place:
            return self.operation(*args, **kwargs)
        if args:
            args = (self.first.clone(), *args[1:])
        else:
            kwargs = {**kwargs, "input": self.first.clone()}
        return self.operation(*args, **kwargs)

    def run_on(self, tensor: Tensor) -> Any:
        """What an operation that is not in place returns for another first tensor."""
        if self.args:
            return self.operation(tensor, *self.args[1:], **self.kwargs)
        return self.operation(**{**self.kwargs, "input": tensor})

    def with_tensors(self, change: Callable[[Tensor], Any]) -> Call:
        """The same call on other tensors."""
        return Call(self.operation, _mapped(self.args, change), _mapped(self.kwargs, change))

    def with_first(self, tensor: Tensor) -> Call:
        """The same call, working on another tensor."""
        if self.args:
            return Call(self.operation, (tensor, *self.args[1:]), self.kwargs)
        return Call(self.operation, (), {**self.kwargs, "input": tensor})

    @property
    def first(self) -> Tensor:
        """The argument that an operation works on, and writes into if it is in place."""
        tensor: Any = self.args[0] if self.args else self.kwargs.get("input")
        return tensor

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument that may have come by position or by name."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)

    @property
    def numbers(self) -> list[float]:
        """The arguments that came by position and are plain numbers."""
        return [value for value in self.args if isinstance(value, (int, float))]


def _mapped(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """An argument with its tensors changed, however it nests them."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (tuple, list)):
        items = [_mapped(item, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    return value


def tensors_in(value: Any) -> list[Tensor]:
    """Tensors in an argument or result, however it nests them.

    Example:
        >>> import torch
        >>> tensors_in((torch.tensor(1), 2, {"others": [torch.tensor(3)]}))
        [tensor(1), tensor(3)]
    """
    if isinstance(value, Tensor):
        return [value]
    found: list[Tensor] = []
    _collect(value, found)
    return found


def _collect(value: Any, found: list[Tensor]) -> None:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (tuple, list)):
        return
    for item in value:
        kind = type(item)
        if kind in _PLAIN:
            continue
        if kind is tuple:  # of a convolution's arguments most are pairs of numbers
            if not _PLAIN.issuperset(map(type, item)):
                _collect(item, found)
        elif isinstance(item, Tensor):
            found.append(item)
        elif isinstance(item, (tuple, list, dict)):
            _collect(item, found)


_PLAIN = frozenset({int, float, bool, str, type(None)})


def normalization_arguments(call: Call) -> dict[str, Any]:
    """Arguments of a normalisation by name; `torch` and `torch.nn.functional` order them otherwise.

    Example:
        >>> import torch
        >>> from torch.nn import functional as F
        >>> statistics = torch.zeros(3), torch.ones(3)
        >>> call = Call(F.batch_norm, (torch.rand(2, 3), *statistics), {"eps": 1e-3})
        >>> [name for name in normalization_arguments(call)]
        ['input', 'running_mean', 'running_var', 'eps']
    """
    order = (_OF_FUNCTIONAL if isinstance(call.operation, FunctionType) else _OF_TORCH)[call.name]
    named = {**dict(zip(order, call.args, strict=False)), **call.kwargs}
    if "use_input_stats" in named:
        named["training"] = named["use_input_stats"]
    return named


_AFFINE_AND_STATISTICS = ("weight", "bias", "running_mean", "running_var")
_STATISTICS_AND_AFFINE = ("running_mean", "running_var", "weight", "bias")
_SAME = {
    "layer_norm": ("input", "normalized_shape", "weight", "bias", "eps"),
    "group_norm": ("input", "num_groups", "weight", "bias", "eps"),
    "rms_norm": ("input", "normalized_shape", "weight", "eps"),
}
_OF_FUNCTIONAL = {
    **_SAME,
    "batch_norm": ("input", *_STATISTICS_AND_AFFINE, "training", "momentum", "eps"),
    "instance_norm": ("input", *_STATISTICS_AND_AFFINE, "use_input_stats", "momentum", "eps"),
}
_OF_TORCH = {
    **_SAME,
    "batch_norm": ("input", *_AFFINE_AND_STATISTICS, "training", "momentum", "eps"),
    "instance_norm": ("input", *_AFFINE_AND_STATISTICS, "use_input_stats", "momentum", "eps"),
}
