"""The engine: gives each torch operation of a forward pass a backward rule of ours.

A `TorchFunctionMode` sees every torch call that a forward pass makes, whether a module made it or a
function (`F.relu`, `x + y`, a ReLU module used twice), and lets a rule take its place. Nothing is
hooked, merged, patched or swapped on the model, so there is nothing to undo.

Heatmaps of this engine are gradients of the rewritten forward pass. Relevance is carried as
`g = R / a`, where a is the activation that R belongs to: LRP is then the product of image and
gradient, and every operation that is linear or positively homogeneous without a bias (sums,
concatenations, pooling, ReLU, reshapes) needs no rule at all, since its plain gradient already
redistributes R in proportion to the contributions (Ancona et al. 2018; Ali et al. 2022).

Zeros cannot carry relevance that way; `carried_relevance` has another way for rules of the first
layer.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from aopc_monitor.heatmaps.engine.audit import Audit
from aopc_monitor.heatmaps.engine.calls import (
    Call,
    Operation,
    body_of,
    is_query,
    plain_name,
    tensors_in,
)
from aopc_monitor.heatmaps.engine.carried_relevance import Carriers
from aopc_monitor.heatmaps.engine.custom_functions import CustomFunctions
from aopc_monitor.heatmaps.engine.dependence import reaches
from aopc_monitor.heatmaps.engine.marks import Marks
from aopc_monitor.heatmaps.engine.operations import (
    ALSO_LINEAR_IN,
    FIRST_LAYER,
    REDUCTIONS,
    RESHAPES,
)
from aopc_monitor.heatmaps.engine.saved_values import Keeper
from aopc_monitor.heatmaps.engine.sharded_blocks import brings_weights_back, call_into_block
from aopc_monitor.heatmaps.engine.tensor_table import TensorTable

Rule: TypeAlias = "Callable[[Call, BackwardRules], Any]"


class NoRuleWarning(UserWarning):
    """A heatmap went through operations that its method has no rule for."""


class BackwardRules(Marks, TorchFunctionMode):
    """Within this context, operations on the images' way get the backward passes of `rules`.

    Only what depends on the images may require gradients (no parameter does), and the context must
    be left before the gradient is taken.

    Args:
        method: name of the method, for messages.
        rules: from an operation's plain name to what takes its place.
        exact: plain names of the operations whose own gradient is what the method asks for; None
            for all operations.
        images: where the signal begins.

    Attributes:
        used: how often each (operation, rule) was met; the rule is "" where there is none.
        without_rule: operations that were met and have no rule.
        carriers: the way of relevance itself, near the images.
        audit: if set, is told of the relevance that constants such as biases absorb.
        first_layer_was_met: whether the rule of the first layer, if there is one, was applied.
    """

    def __init__(
        self, method: str, rules: Mapping[str, Rule], exact: frozenset[str] | None, images: Tensor
    ) -> None:
        Marks.__init__(self)
        TorchFunctionMode.__init__(self)
        self.method = method
        self.rules = rules
        self.exact = exact
        self.used: Counter[tuple[str, str]] = Counter()
        self.without_rule: set[str] = set()
        self.audit: Audit | None = None
        self.keeper = Keeper()
        bounds = getattr(rules.get(FIRST_LAYER), "settings", {})
        self.carriers = Carriers(images, bounds.get("low"), bounds.get("high"))
        self.first_layer_was_met = FIRST_LAYER not in rules
        self._seen: TensorTable[bool] = TensorTable()
        self._seen[images] = True
        self._start = images.grad_fn
        # What was made of parameters alone that no module registered: they require gradients.
        self._constants: TensorTable[bool] = TensorTable()
        self._has_constants = False
        self._custom = CustomFunctions()
        self._opened: list[Operation] = []

    def is_signal(self, value: object) -> bool:
        """Whether a value is a tensor that depends on the images."""
        # Parameters that no module registered are leaves, which the images here never are.
        return (
            isinstance(value, Tensor)
            and value.requires_grad
            and not value.is_leaf
            and value not in self._constants
        )

    def note_first_layer(self, label: str) -> None:
        """Remember that the rule of the first layer was applied."""
        self.first_layer_was_met = True
        self.used[FIRST_LAYER, label] += 1

    def note_absorbed(self, relevance: Tensor) -> None:
        """Count relevance that a constant took, if anybody asks."""
        if self.audit is not None:
            self.audit.absorb(relevance.sum())

    def note_lost(self, relevance: Tensor, is_zero: Tensor) -> None:
        """Count relevance of activations of zero, which cannot hand it on, if anybody asks."""
        if self.audit is not None:
            self.audit.lose(relevance[is_zero].sum())

    def __torch_function__(
        self,
        func: Operation,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one torch call by its rule, or as it is."""
        kwargs = kwargs or {}
        if is_query(func):
            return func(*args, **kwargs)
        call, signals = self._with_known_origin(Call(func, args, kwargs))
        if call.in_place and isinstance(call.first, Tensor):
            self.keeper.about_to_write(call.first)
        if not signals or brings_weights_back(call):
            return self._of_constants(func(*call.args, **call.kwargs))
        args, kwargs = call.args, call.kwargs
        rule = self.rules.get(call.name)
        body = body_of(func) if rule is None and not self._is_known(call) else None
        # A method that Tensor takes over from its base class reports as itself: it is opened once.
        if body is not None and func not in self._opened:
            with self._looking_into(func):
                return body(*args, **kwargs)
        return self._run(call, signals, rule)

    def _with_known_origin(self, call: Call) -> tuple[Call, list[Tensor]]:
        """The call, and the signals among its arguments, once it is known where they come from."""
        signals, seen = self._signals_of(call), self._seen
        if self._custom.are_met or [signal for signal in signals if signal not in seen]:
            self._check_origin(signals)
            call = call.with_tensors(self._custom.stand_in)
            signals = self._signals_of(call)
        if not torch.is_grad_enabled():
            self._custom.note_inputs(signals)
        return call, signals

    def _signals_of(self, call: Call) -> list[Tensor]:
        return self._signals_among(call.tensors)

    def _signals_among(self, tensors: list[Tensor]) -> list[Tensor]:
        # As `is_signal`, which takes twice as long for all tensors of a forward.
        found = [tensor for tensor in tensors if tensor.requires_grad and not tensor.is_leaf]
        if self._has_constants:
            return [tensor for tensor in found if tensor not in self._constants]
        return found

    def _of_constants(self, result: Any) -> Any:
        """What was made without any signal is none either, though it may require gradients."""
        for tensor in tensors_in(result):
            if tensor.requires_grad and not tensor.is_leaf:
                self._note_constant(tensor)
        return result

    def _note_constant(self, tensor: Tensor) -> None:
        self._constants[tensor] = self._has_constants = True

    def _run(self, call: Call, signals: list[Tensor], rule: Rule | None) -> Any:
        if call.name.endswith("_as"):  # the second tensor only lends its shape
            signals = signals[:1]
        # The call may write over its arguments, so what depends on them is asked before.
        rank = self.rank_of_result(call, signals)
        carriers = self.carriers.before(call, signals)
        audit = self.audit
        watched = audit.watching(call, signals, self.is_signal, self.keeper) if audit else None
        if rule is None:
            result = call.operation(*call.args, **call.kwargs)
        else:
            result = rule(call, self)
            if call.in_place:
                rank = max(rank, self.gate_rank(result))
                result = call.first.copy_(result)
        # An assignment to a slice returns nothing: the signal goes on in what was assigned to.
        reached = call.args[0] if call.name == "setitem" else result
        if call.in_place:  # what was a constant may have become a signal
            for written in (call.first, call.first._base):
                if written is not None:
                    self._constants.discard(written)
        results = self._signals_among(tensors_in(reached))
        self._follow(call, signals[0], results, rule, rank)
        self.carriers.after(call, carriers, results)
        if watched is not None:
            watched(results)
        return result

    def _is_known(self, call: Call) -> bool:
        # Where every gradient is exact, only operations with a rule need to be looked for.
        return call.name in (RESHAPES if self.exact is None else self.exact)

    def _is_exact(self, call: Call) -> bool:
        if self.exact is None:
            return True
        factor = ALSO_LINEAR_IN.get(call.name)
        if factor is not None and self.is_signal(call.argument(*factor)):
            return False
        how = REDUCTIONS.get(call.name)
        return call.name in self.exact and (how is None or call.argument(*how) != "prod")

    @contextmanager
    def _looking_into(self, func: Operation) -> Iterator[None]:
        """See the inner operations of a function of torch that is written in Python."""
        self._opened.append(func)
        try:
            with self:
                yield
        finally:
            self._opened.remove(func)

    def start_of(self, outputs: Tensor) -> Tensor:
        """Where the backward pass starts: the outputs, or the logits before a final softmax."""
        if self.is_signal(outputs):
            self._check_origin([outputs])
            outputs = self._custom.stand_in(outputs)
        logits = self.logits_of(outputs)
        return outputs if logits is None else logits.reshape(outputs.shape)

    def warn(self) -> None:
        """Name the operations without a rule that the backward pass went through."""
        if not self.first_layer_was_met:
            self.without_rule.add("the first layer (no linear operation works on the images)")
        if self.without_rule:
            message = (
                f"{self.method} has no rule for: {', '.join(sorted(self.without_rule))}. Their "
                "plain gradient was used, so the heatmap is not what the method's name says"
            )
            warnings.warn(NoRuleWarning(message), stacklevel=2)

    def note_without_rule(self, name: str, results: list[Tensor]) -> None:
        """Remember an operation without a rule, once a signal comes back through it."""
        self.used[name, ""] += 1
        for result in results:
            result.register_hook(lambda signal: self._reached(name, signal))

    def _reached(self, name: str, signal: Tensor | None) -> None:
        if signal is not None:  # None where relevance went by its carrier
            self.without_rule.add(name)

    def _check_origin(self, signals: list[Tensor]) -> None:
        """Note signals that no call returned: TorchScript or an autograd.Function made them."""
        for signal in signals:
            if signal in self._seen or signal in self._constants:
                continue
            if not reaches(signal, self._start):
                self._note_constant(signal)
                continue
            into_block = call_into_block(signal, self._seen.tensors())
            self._seen[signal] = True
            if into_block is not None:
                self._run(into_block, [into_block.first], None)
            elif not self._put_in_its_place(signal):
                maker = signal.grad_fn.name() if signal.grad_fn is not None else "a leaf"
                self.note_without_rule(f"a hidden operation ({maker})", [signal])

    def _put_in_its_place(self, result: Tensor) -> bool:
        """Run what a custom function computed by its rule, if that can be found out."""
        found = self._custom.recognised(result, self._seen.tensors())
        if found is None or (self.exact is None and plain_name(found[0]) not in self.rules):
            return False
        with self:
            self._custom.put(result, found[0](found[1]))
        return True

    def _follow(
        self, call: Call, signal: Tensor, results: list[Tensor], rule: Rule | None, rank: int
    ) -> None:
        """Note what a call made of the signals that it was given."""
        for tensor in results:
            self._seen[tensor] = True
            if tensor._base is not None:  # written into through a view
                self._seen[tensor._base] = True
        if not results:
            return
        if rule is None and not self._is_exact(call):
            self.note_without_rule(call.name, results)
        else:
            self.used[call.name, _label(rule) if rule else ITS_GRADIENT] += 1
        self.hand_on(call, signal, results, rank)


ITS_GRADIENT = "its gradient"


def _label(rule: Rule) -> str:
    """What a report calls a rule."""
    label = getattr(rule, "label", None) or getattr(rule, "__name__", repr(rule))
    return str(label).replace("_", " ")
