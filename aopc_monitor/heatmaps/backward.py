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

import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from aopc_monitor.heatmaps.calls import Call, Operation, tensors_in

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
                result = call.first.copy_(result)
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
        """Note what a call made of the signals that it was given."""
        # An assignment to a slice returns nothing: the signal goes on in what was assigned to.
        reached = call.args[0] if call.name == "setitem" else result
        results = [tensor for tensor in tensors_in(reached) if self.is_signal(tensor)]
        for tensor in results:
            self._seen[tensor] = True
            if tensor._base is not None:  # written into through a view
                self._seen[tensor._base] = True
        if results and not has_rule and call.name not in self.exact:
            self.without_rule.add(call.name)
        self._follow_ends(call, signals, results)
        self._follow_origin(call, signals[0], results)

    def _follow_ends(self, call: Call, signals: list[Tensor], results: list[Tensor]) -> None:
        names = [self.ends[signal] for signal in signals if signal in self.ends]
        if call.name not in RESHAPES and results:
            self.without_rule.update(names)
        elif names:
            self.ends.update(dict.fromkeys(results, names[0]))

    def _follow_origin(self, call: Call, signal: Tensor, results: list[Tensor]) -> None:
        layer, version = self.origins.get(signal, (None, None))
        if layer is not None and call.name in COPIES and signal._version == version:
            self.origins.update({copy: (layer, copy._version) for copy in results})

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
