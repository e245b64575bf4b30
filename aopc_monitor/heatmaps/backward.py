"""The engine: gives each torch operation of a forward pass a backward rule of ours.

A `TorchFunctionMode` sees every torch call that a forward pass makes, whether a module made it or a
function (`F.relu`, `x + y`, a ReLU module used twice), and lets a rule take its place. Nothing is
hooked, merged, patched or swapped on the model, so there is nothing to undo.

Heatmaps of this engine are gradients of the rewritten forward pass. Relevance is carried as
`g = R / a`, where a is the activation that R belongs to: LRP is then the product of image and
gradient, and every operation that is linear or positively homogeneous without a bias (sums,
concatenations, pooling, ReLU, reshapes) needs no rule at all, since its plain gradient already
redistributes R in proportion to the contributions (Ancona et al. 2018; Ali et al. 2022).
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

Operation: TypeAlias = Callable[..., Any]


class Call:
    """One call of a torch operation on the way from the images to the class scores.

    Attributes:
        operation: the torch function.
        name: its plain name: "relu" for `F.relu`, `torch.relu_` and `Tensor.relu` alike.
        args: positional arguments.
        kwargs: keyword arguments.
    """

    def __init__(self, operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.operation = operation
        self.name = plain_name(operation)
        self.args = args
        self.kwargs = kwargs

    def run(self) -> Any:
        """What the operation returns; its arguments stay as they are, also if it is in place."""
        if self.in_place:
            return self.operation(self.args[0].clone(), *self.args[1:], **self.kwargs)
        return self.operation(*self.args, **self.kwargs)

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument that may have come by position or by name."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)

    @property
    def in_place(self) -> bool:
        """Whether the operation writes into its first argument."""
        name = getattr(self.operation, "__name__", "")
        if (name.endswith("_") and not name.endswith("__")) or name.startswith("__i"):
            return True
        if not isinstance(self.operation, FunctionType):
            return False
        parameters = list(inspect.signature(self.operation).parameters)
        return "inplace" in parameters and bool(
            self.argument(parameters.index("inplace"), "inplace", False)
        )


Rule: TypeAlias = "Callable[[Call, BackwardRules], Any]"


class BackwardRules(TorchFunctionMode):
    """Within this context, operations on the images' way get the backward passes of `rules`.

    Only what depends on the images may require gradients (no parameter does), and the context must
    be left before the gradient is taken.

    Args:
        method: name of the method, for messages.
        rules: from an operation's plain name to what takes its place.
        exact: plain names of the operations whose own gradient is what the method asks for.
        images: where the signal begins.

    Attributes:
        without_rule: operations that were met and have none; named in a warning on leaving.
    """

    def __init__(
        self, method: str, rules: Mapping[str, Rule], exact: frozenset[str], images: Tensor
    ) -> None:
        super().__init__()
        self.method = method
        self.rules = rules
        self.exact = exact
        self.without_rule: set[str] = set()
        # What made a tensor, and which tensors only an output may be; both forget dead tensors.
        self.origins: Any = WeakIdKeyDictionary()
        self.ends: Any = WeakIdKeyDictionary()
        self._seen: Any = WeakIdKeyDictionary()
        self._seen[images] = True

    def is_signal(self, value: object) -> bool:
        """Whether a value is a tensor that depends on the images."""
        return isinstance(value, Tensor) and value.requires_grad

    def __torch_function__(
        self,
        func: Operation,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one torch call by its rule, or as it is."""
        kwargs = kwargs or {}
        signals = [value for value in tensors_in((args, kwargs)) if self.is_signal(value)]
        if not signals:
            return func(*args, **kwargs)
        self._check_origin(signals)
        call = Call(func, args, kwargs)
        rule = self.rules.get(call.name)
        if rule is None:
            result = func(*args, **kwargs)
        else:
            result = rule(call, self)
            if call.in_place:
                result = args[0].copy_(result)
        self._follow(call, signals, result, has_rule=rule is not None)
        return result

    def check_outputs(self, outputs: Tensor) -> None:
        """Notice an operation, hidden from torch functions, that made the network's outputs."""
        if self.is_signal(outputs):
            self._check_origin([outputs])

    def _check_origin(self, signals: list[Tensor]) -> None:
        """What no call returned was made out of sight: by TorchScript or an autograd.Function."""
        for signal in signals:
            if signal not in self._seen:
                maker = signal.grad_fn.name() if signal.grad_fn is not None else "a leaf"
                self.without_rule.add(f"a hidden operation ({maker})")
                self._seen[signal] = True

    def _follow(self, call: Call, signals: list[Tensor], result: Any, *, has_rule: bool) -> None:
        # An assignment to a slice returns nothing: the signal goes on in what was assigned to.
        reached = call.args[0] if call.name == "setitem" else result
        results = [tensor for tensor in tensors_in(reached) if self.is_signal(tensor)]
        for tensor in results:
            self._seen[tensor] = True
            if tensor._base is not None:  # written into through a view
                self._seen[tensor._base] = True
        if results and not has_rule and call.name not in self.exact:
            self.without_rule.add(call.name)
        if any(signal in self.ends for signal in signals):
            if call.name in RESHAPES:
                self.ends.update(dict.fromkeys(results, self.ends[signals[0]]))
            elif results:
                self.without_rule.update(self.ends[s] for s in signals if s in self.ends)
        if call.name in COPIES and signals[0] in self.origins:
            layer, version = self.origins[signals[0]]
            if signals[0]._version == version:
                self.origins[result] = (layer, result._version)

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        """Leave, and name what had no rule."""
        super().__exit__(exc_type, exc_value, traceback)
        if self.without_rule and exc_type is None:
            warnings.warn(
                f"{self.method} has no rule for: {', '.join(sorted(self.without_rule))}. Their "
                "plain gradient was used, so the heatmap is not what the method's name says",
                stacklevel=2,
            )


RESHAPES = frozenset({
    "bfloat16", "broadcast_to", "cat", "chunk", "clone", "concat", "contiguous", "double",
    "expand", "expand_as", "flatten", "flip", "float", "gather", "get", "getitem", "half",
    "index_select", "movedim", "narrow", "pad", "permute", "pixel_shuffle", "pixel_unshuffle",
    "channel_shuffle", "repeat", "repeat_interleave", "reshape", "reshape_as", "roll", "select",
    "setitem", "split", "split_with_sizes", "squeeze", "stack", "swapaxes", "t", "tensor_split",
    "to", "transpose", "type", "type_as", "unbind", "unflatten", "unfold", "unsqueeze", "view",
    "view_as", "requires_grad", "cpu", "cuda", "copy", "masked_select", "retain_grad",
})  # fmt: skip
# Hand on what they were given, maybe in another memory layout.
COPIES = frozenset({"clone", "contiguous", "dropout"})


def plain_name(operation: Operation) -> str:
    """One name for the spellings of an operation.

    Example:
        >>> [plain_name(f) for f in (torch.relu_, Tensor.__iadd__, Tensor.__rdiv__)]
        ['relu', 'add', 'rdiv']
    """
    name: str = getattr(operation, "__name__", type(operation).__name__)
    plain = name.strip("_")
    if (
        name.startswith("__")
        and (
            (plain[0] == "i" and plain[1:] in _OPERATORS)
            # Not 1 / x nor w @ x, which are other operations than x / 1 and x @ w.
            or (plain[0] == "r" and plain[1:] in _OPERATORS - {"truediv", "div", "matmul"})
        )
    ):
        plain = plain[1:]
    return _SYNONYMS.get(plain, plain)


_OPERATORS = frozenset({"add", "sub", "mul", "truediv", "div", "matmul"})
_SYNONYMS = {"truediv": "div", "true_divide": "div", "divide": "div", "multiply": "mul"}


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Tensors in an argument or result, however it nests them."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def substitute(source: Tensor, value: Tensor, backward: Callable[[Tensor], Tensor]) -> Tensor:
    """A tensor of the given value whose gradient with respect to `source` is `backward(g)`.

    Args:
        source: where the signal goes on.
        value: what the forward pass continues with; copied, so that it may be changed in place.
        backward: from the signal at the value to the signal at the source.
    """
    result: Tensor = _Substitute.apply(source, _Held(value.detach().clone()), backward)
    return result


class _Held:
    """Hides a tensor from autograd, which would treat a returned input as a view of itself."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class _Substitute(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, source: Tensor, value: _Held, backward: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.rule = backward
        return value.tensor

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None, None]:
        return ctx.rule(signal), None, None
