"""One call of a torch operation: its plain name, its arguments, and whether it works in place."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import FunctionType
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket

from aopc_monitor.heatmaps.engine.operations import QUERIES

Operation: TypeAlias = Callable[..., Any]


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
        self.name, self.in_place, place = _facts_of(operation)
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
        if self.in_place and args:
            args = (self.first.clone(), *args[1:])
        elif self.in_place:
            kwargs = {**kwargs, "input": self.first.clone()}
        return self.operation(*args, **kwargs)

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
        tensor: Tensor = self.argument(0, "input")
        return tensor

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument that may have come by position or by name."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)

    @property
    def numbers(self) -> list[float]:
        """The arguments that came by position and are plain numbers."""
        return [value for value in self.args if isinstance(value, (int, float))]


@lru_cache(maxsize=1024)
def is_query(operation: Operation) -> bool:
    """Whether an operation asks something about a tensor, such as its shape.

    Example:
        >>> is_query(Tensor.size), is_query(Tensor.shape.__get__), is_query(Tensor.sum)
        (True, True, False)
    """
    return plain_name(operation) in QUERIES


class _Facts(NamedTuple):
    """What every call of an operation has in common.

    Attributes:
        name: its plain name.
        writes: whether each call writes into its first argument.
        place_of_inplace: where the argument `inplace` stands, if it has one to ask for that.
    """

    name: str
    writes: bool
    place_of_inplace: int | None


# All calls of a forward ask this, and there are not many operations. There is a limit, since a
# function that is made anew for each call would be held for ever.
@lru_cache(maxsize=1024)
def _facts_of(operation: Operation) -> _Facts:
    name, plain = own_name(operation), plain_name(operation)
    if name.startswith("__"):
        is_operator = name[2] == "i" and name[3:-2] in _OPERATORS
        return _Facts(plain, is_operator or name == "__setitem__", None)
    if name.endswith("_") or not isinstance(operation, FunctionType):
        return _Facts(plain, name.endswith("_"), None)
    # inspect.signature fails for wrappers of methods written in C (x ** 2), which have code.
    code = operation.__code__
    parameters = code.co_varnames[: code.co_argcount]
    return _Facts(plain, False, parameters.index("inplace") if "inplace" in parameters else None)


def own_name(operation: Operation) -> str:
    """What a function calls itself, without the overload that exported networks have at its end.

    Operators of other libraries keep the name of their library, since theirs may mean anything.

    Example:
        >>> import torch
        >>> own_name(torch.ops.aten.relu_.default), own_name(torch.ops.quantized.linear)
        ('relu_', 'quantized::linear')
    """
    if isinstance(operation, OpOverload):
        operation = operation.overloadpacket
    if isinstance(operation, OpOverloadPacket):
        library, _, name = str(operation._qualified_op_name).partition("::")
        return name if library in _LIBRARIES else f"{library}::{name}"
    return getattr(operation, "__name__", type(operation).__name__)


_LIBRARIES = ("aten", "torchvision")


def plain_name(operation: Operation) -> str:
    """One name for the spellings of an operation.

    Example:
        >>> import torch
        >>> [plain_name(f) for f in (torch.relu_, Tensor.__iadd__, Tensor.__rdiv__)]
        ['relu', 'add', 'rdiv']
        >>> plain_name(torch.ops.aten.add_.Tensor)  # as exported networks call it
        'add'
    """
    name = own_name(operation)
    if name == "__get__":  # x.T, x.data: the attribute is what counts
        return str(getattr(getattr(operation, "__self__", None), "__name__", "get"))
    plain = name.strip("_")
    if (
        name.startswith("__")
        and (
            (plain[0] == "i" and plain[1:] in _OPERATORS)
            # 1 / x and w @ x are other operations than x / 1 and x @ w, and keep their names.
            or (plain[0] == "r" and plain[1:] in _OPERATORS - {"truediv", "div", "matmul"})
        )
    ):
        plain = plain[1:]
    return _SYNONYMS.get(plain, plain)


_OPERATORS = frozenset({"add", "sub", "mul", "truediv", "div", "matmul"})
_SYNONYMS = {
    "absolute": "abs",
    "adjoint": "transpose",
    "arccos": "acos",
    "arcsin": "asin",
    "arctan": "atan",
    "arctanh": "atanh",
    "clip": "clamp",
    "divide": "div",
    "multiply": "mul",
    "negative": "neg",
    "slice": "getitem",
    "special_expit": "sigmoid",
    "special_softmax": "softmax",
    "subtract": "sub",
    "to_copy": "to",
    "true_divide": "div",
    "truediv": "div",
    "unsafe_view": "view",
}


def body_of(operation: Operation) -> Operation | None:
    """The Python body of a function of torch, whose inner operations a mode can see.

    Such a function (`F.multi_head_attention_forward`, `F.normalize`) first asks whether a mode
    takes the whole call over. The body returned here does not ask. None for anything else.

    Example:
        >>> import torch
        >>> from torch.nn import functional as F
        >>> body_of(F.normalize)(torch.tensor([[3.0, 4.0]]))
        tensor([[0.6000, 0.8000]])
        >>> body_of(torch.relu) is None
        True
    """
    if not isinstance(operation, FunctionType) or not operation.__module__.startswith("torch."):
        return None
    asks = [name for name in operation.__code__.co_names if name in _ASKS]
    if not asks:
        return None
    answered = {**operation.__globals__, **dict.fromkeys(asks, lambda *_: False)}
    body = FunctionType(
        operation.__code__,
        answered,
        operation.__name__,
        operation.__defaults__,
        operation.__closure__,
    )
    body.__kwdefaults__ = operation.__kwdefaults__
    return body


_ASKS = frozenset({"has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"})


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
        if isinstance(item, Tensor):
            found.append(item)
        elif isinstance(item, (tuple, list, dict)):
            _collect(item, found)


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
