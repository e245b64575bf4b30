"""The forward pass of a network while it is explained: with gradients, whatever it says of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as _module
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules
from aopc_monitor.heatmaps.engine.calls import Call, tensors_in
from aopc_monitor.heatmaps.engine.cut_offs import CutOffs, adds_signals, cuts_off
from aopc_monitor.heatmaps.engine.layouts import is_batch_norm, needs_order, order_signal
from aopc_monitor.heatmaps.engine.operation_names import Operation, facts_of, is_query, plain_name
from aopc_monitor.heatmaps.engine.sharded_blocks import brings_weights_back


class ExplainedForward(TorchFunctionMode):
    """Within this context, a forward pass is on the graph of its images wherever that can be.

    `no_grad`, `set_grad_enabled(False)` and `inference_mode` inside of it save memory and change no
    output, so they are not obeyed. Hooks that the forward puts on its tensors are not registered,
    since what would come to them is no gradient of the training, but for those that bring the
    weights that a backward pass needs from other processes. What cuts values off all the same
    (`.detach()`, `.data`, numpy) is followed. Batch normalisation of one image gets its tensors in
    their order (see `needs_order`).

    Args:
        held: what the network holds in buffers and attributes, into which no gradient is written.
        rules: what each call is answered by, if its backward pass is to be another one.
        undo: undoes what cuts off (see `CutOffs`), to see whether it matters.

    Attributes:
        cut_offs: what was cut off.
    """

    def __init__(
        self, held: Iterable[Tensor], rules: BackwardRules | None = None, *, undo: bool = False
    ) -> None:
        super().__init__()
        self.cut_offs = CutOffs(undo=undo)
        self._held = set(map(id, held))
        self._rules = rules
        self._gradients_wanted = True

    def __torch_function__(
        self,
        func: Operation,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one torch call, with gradients."""
        kwargs = kwargs or {}
        if func is torch._C._set_grad_enabled:
            self._gradients_wanted = bool(args[0])
            return func(True)
        if torch.is_inference_mode_enabled():
            with torch.inference_mode(False), torch.enable_grad():
                return self._run(Call(func, args, kwargs), obeying=True)
        if is_query(func) and args and type(args[0]) is Tensor:
            return func(*args, **kwargs)
        # Nearly every other call of nearly every network ends here.
        is_undisturbed = self._gradients_wanted and not self.cut_offs.has_begun
        if is_undisturbed and (_is_ordinary(func) or _is_ordinary_call(func, args)):
            if self._rules is None:
                return func(*args, **kwargs)
            return self._rules.answer(func, args, kwargs)
        return self._run(Call(func, args, kwargs), obeying=not self._gradients_wanted)

    def _run(self, call: Call, *, obeying: bool) -> Any:
        if call.name in _HOOKS and not brings_weights_back(call):
            return RemovableHandle(OrderedDict())
        if call.name == "requires_grad" and call.in_place and not call.first.is_leaf:
            return call.first
        if call.name == "cond" and not isinstance(call.operation, FunctionType):
            condition, if_true, if_false, operands = call.args
            with self:
                return (if_true if condition else if_false)(*operands)
        with self._rules or nullcontext():
            return self._followed(call, obeying=obeying)

    def _followed(self, call: Call, *, obeying: bool) -> Any:
        if (obeying or self.cut_offs.undo) and call.in_place and self._is_held(call.args[:1]):
            # A tensor that was made in inference mode can be written to in that mode alone.
            with torch.inference_mode(call.first.is_inference()), torch.no_grad():
                return call.operation(*call.args, **call.kwargs)
        if is_batch_norm(call.name) and needs_order(call.first):
            ordered = self.cut_offs.follow(Call(Tensor.contiguous, (call.first,), {}))
            result = self.cut_offs.follow(call.with_first(ordered))
            order_signal(result)
            return result
        return self.cut_offs.follow(call)

    def _is_held(self, targets: Iterable[Any]) -> bool:
        """Whether a call writes into what the network keeps, which must not get onto the graph."""
        owners = [base for t in tensors_in(tuple(targets)) for base in (t, t._base)]
        return any(id(owner) in self._held for owner in owners)


_HOOKS = ("register_hook", "register_post_accumulate_grad_hook")


@lru_cache(maxsize=1024)  # a limit, since a function that is made for one call would be held
def _is_ordinary(operation: Operation) -> bool:
    """Whether nothing has to be done about an operation as long as nothing was cut off."""
    name = plain_name(operation)
    special = name in (*_HOOKS, "requires_grad", "cond") or is_batch_norm(name)
    return not special and not cuts_off(operation)


def _is_ordinary_call(operation: Operation, args: tuple[Any, ...]) -> bool:
    """Whether that holds for a call of an operation about which sometimes something has to be."""
    if len(args) > 1 and is_batch_norm(facts_of(operation).name):
        return not needs_order(args[0])
    return adds_signals(operation, args)


@contextmanager
def without_backward_hooks(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Set the backward hooks of modules aside, those of all modules (`wandb.watch`) included.

    They are for gradients of the training, and not for relevance; and the identity that torch puts
    on the graph for each of them would hide from rules where a tensor comes from.
    """
    hooks: list[dict[Any, Any]] = [
        _module._global_backward_hooks,
        _module._global_backward_pre_hooks,
    ]
    for module in modules:
        hooks += [module._backward_hooks, module._backward_pre_hooks]
    kept = [(registered, dict(registered)) for registered in hooks if registered]
    for registered, _ in kept:
        registered.clear()
    try:
        yield
    finally:
        for registered, before in kept:
            registered.clear()
            registered.update(before)
