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

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from aopc_monitor.heatmaps.engine.calls import Call, tensors_in
from aopc_monitor.heatmaps.engine.carried_relevance import Carriers
from aopc_monitor.heatmaps.engine.custom_functions import CustomFunctions
from aopc_monitor.heatmaps.engine.findings import Findings
from aopc_monitor.heatmaps.engine.marks import Marks
from aopc_monitor.heatmaps.engine.operation_names import Operation, plain_name
from aopc_monitor.heatmaps.engine.operations import FIRST_LAYER
from aopc_monitor.heatmaps.engine.saved_values import Keeper
from aopc_monitor.heatmaps.engine.sharded_blocks import brings_weights_back, call_into_block
from aopc_monitor.heatmaps.engine.signals import Signals
from aopc_monitor.heatmaps.engine.treatments import (
    Treatment,
    is_exact,
    known_treatments,
    treatment_of,
)

Rule: TypeAlias = "Callable[[Call, BackwardRules], Any]"


class BackwardRules(Signals, Marks, Findings, TorchFunctionMode):
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
        first_layer: the rule of operations that work on the images themselves, if there is one.
        keeper: keeps values that backward passes need.
        carriers: the way of relevance itself, near the images.
    """

    def __init__(
        self, method: str, rules: Mapping[str, Rule], exact: frozenset[str] | None, images: Tensor
    ) -> None:
        Signals.__init__(self, images)
        Marks.__init__(self)
        Findings.__init__(self, method, first_layer_was_met=FIRST_LAYER not in rules)
        TorchFunctionMode.__init__(self)
        self.rules = rules
        self.exact = exact
        self.keeper = Keeper()
        self.first_layer = rules.get(FIRST_LAYER)
        bounds = getattr(self.first_layer, "settings", {})
        self.carriers = Carriers(images, bounds.get("low"), bounds.get("high"))
        self._custom = CustomFunctions()
        self._met_hidden = False
        self._opened: list[Operation] = []
        self._treatments = known_treatments(rules, exact)

    def __torch_function__(
        self,
        func: Operation,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one torch call by its rule, or as it is."""
        return self.answer(func, args, kwargs or {})

    def answer(self, func: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What one torch call returns, by its rule, or as it is."""
        treatment = self._treatments.get(func) or self._treatment_of(func)
        if treatment.is_query:
            return func(*args, **kwargs)
        call = Call(func, args, kwargs)
        signals = self.signals_among(call.tensors)
        if self._custom.are_met or not self._seen.has_all(signals):
            call, signals = self._with_known_origin(call, signals)
        if not signals or brings_weights_back(call):
            self._about_to_write(call)
            result = func(*call.args, **call.kwargs)
            self.note_constants(result)
            return result
        # A method that Tensor takes over from its base class reports as itself: it is opened once.
        if treatment.body is not None and func not in self._opened:
            with self._looking_into(func):
                return treatment.body(*call.args, **call.kwargs)
        return self._run(call, signals, treatment)

    def _treatment_of(self, func: Operation) -> Treatment:
        self._treatments[func] = found = treatment_of(func, self.rules, self.exact)
        return found

    def _with_known_origin(self, call: Call, signals: list[Tensor]) -> tuple[Call, list[Tensor]]:
        """The call, and the signals among its arguments, once it is known where they come from."""
        self._check_origin(signals)
        call = call.with_tensors(self._custom.stand_in)
        return call, self.signals_among(call.tensors)

    def _about_to_write(self, call: Call) -> None:
        if call.in_place and isinstance(call.first, Tensor):
            self.keeper.about_to_write(call.first)

    def _run(self, call: Call, signals: list[Tensor], treatment: Treatment) -> Any:
        if not torch.is_grad_enabled():
            self._custom.note_inputs(signals)
        if treatment.lends_shape:
            signals = signals[:1]
        # The call may write over its arguments, so what depends on them is asked before.
        rank = self.rank_of_result(call, signals)
        carriers = self.carriers.before(call, signals)
        audit = self.audit
        watched = audit.watching(call, signals, self.is_signal, self.keeper) if audit else None
        if call.in_place:
            result, rank_by_rule = self._written(call, treatment.rule)
            rank = max(rank, rank_by_rule)
        elif treatment.rule is None:
            result = call.operation(*call.args, **call.kwargs)
        else:
            result = treatment.rule(call, self)
        self.note_used(signals)
        # An assignment to a slice returns nothing: the signal goes on in what was assigned to.
        reached = call.args[0] if call.name == "setitem" else result
        results = self.signals_among(tensors_in(reached))
        self._follow(call, signals[0], results, treatment, rank)
        if carriers is not None:
            self.carriers.after(call, carriers, results)
        if watched is not None:
            watched(results)
        return result

    def _written(self, call: Call, rule: Rule | None) -> tuple[Any, int]:
        """What a call in place returns, with the backward pass of its rule; and its rank by it."""
        if rule is None:
            self._about_to_write(call)
            result, rank = call.operation(*call.args, **call.kwargs), 0
        else:
            result = rule(call, self)
            rank = self.gate_rank(result)
            if result is not call.first:
                self._about_to_write(call)
                result = call.first.copy_(result)
        self.note_written(call.first)
        return result, rank

    def _follow(
        self,
        call: Call,
        signal: Tensor,
        results: list[Tensor],
        treatment: Treatment,
        rank: int,
    ) -> None:
        """Note what a call made of the signals that it was given."""
        if not results:
            return
        self.note_made(results)
        if treatment.rule is None and not self._is_exact(call, treatment):
            self.note_without_rule(call.name, results)
        else:
            self.used[treatment.entry] += 1
        self.hand_on(call, signal, results, rank)

    def _is_exact(self, call: Call, treatment: Treatment) -> bool:
        if self.exact is None or treatment.is_exact is not None:
            return bool(treatment.is_exact)
        return is_exact(call, self.exact, self.is_signal)

    @contextmanager
    def _looking_into(self, func: Operation) -> Iterator[None]:
        """See the inner operations of a function of torch that is written in Python."""
        self._opened.append(func)
        try:
            with self:
                yield
        finally:
            self._opened.remove(func)

    @property
    def wrote_over_used(self) -> bool:
        """Whether ReLU wrote over outputs that an operation out of sight may have been given."""
        return self._met_hidden and self.has_spared_copies

    def start_of(self, outputs: Tensor) -> Tensor:
        """Where the backward pass starts: the outputs, or the logits before a final softmax."""
        if self.is_signal(outputs):
            self._check_origin([outputs])
            outputs = self._custom.stand_in(outputs)
        logits = self.logits_of(outputs)
        return outputs if logits is None else logits.reshape(outputs.shape)

    def _check_origin(self, signals: list[Tensor]) -> None:
        """Note signals that no call returned: TorchScript or an autograd.Function made them."""
        for signal in signals:
            if self._seen.has_all([signal]) or not self.is_signal(signal):
                continue
            if self.comes_from_elsewhere(signal):
                self.note_constant(signal)
                continue
            into_block = call_into_block(signal, self._seen.tensors())
            self._seen.add(signal)
            self._met_hidden |= into_block is None
            if into_block is not None:
                by_itself = self._treatment_of(into_block.operation)._replace(rule=None)
                self._run(into_block, [into_block.first], by_itself)
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
