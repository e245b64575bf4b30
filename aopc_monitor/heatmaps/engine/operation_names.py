"""What torch operations are called, and what their functions tell of themselves."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import FunctionType
from typing import Any, NamedTuple, TypeAlias

from torch._ops import OpOverload, OpOverloadPacket

from aopc_monitor.heatmaps.engine.operations import QUERIES

Operation: TypeAlias = Callable[..., Any]


@lru_cache(maxsize=1024)
def is_query(operation: Operation) -> bool:
    """Whether an operation asks something about a tensor, such as its shape.

    Example:
        >>> from torch import Tensor
        >>> is_query(Tensor.size), is_query(Tensor.shape.__get__), is_query(Tensor.sum)
        (True, True, False)
    """
    return plain_name(operation) in QUERIES


class Facts(NamedTuple):
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
def facts_of(operation: Operation) -> Facts:
    """What every call of an operation has in common."""
    name, plain = own_name(operation), plain_name(operation)
    if name.startswith("__"):
        is_operator = name[2] == "i" and name[3:-2] in _OPERATORS
        return Facts(plain, is_operator or name == "__setitem__", None)
    if name.endswith("_") or not isinstance(operation, FunctionType):
        return Facts(plain, name.endswith("_"), None)
    # inspect.signature fails for wrappers of methods written in C (x ** 2), which have code.
    code = operation.__code__
    parameters = code.co_varnames[: code.co_argcount]
    return Facts(plain, False, parameters.index("inplace") if "inplace" in parameters else None)


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
        >>> from torch import Tensor
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
