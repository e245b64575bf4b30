"""The engine: gives each torch operation of a forward pass a backward rule of ours.

A `TorchFunctionMode` sees every torch call that a forward pass makes, whether a module made it or a
function (`F.relu`, `x + y`, a ReLU module used twice), and lets a rule take its place. Nothing is
hooked, merged, patched or swapped on the model, so there is nothing to undo.

Heatmaps of this engine are gradients of the rewritten forward pass. Relevance is carried as
`g = R / a`, where a is the activation that R belongs to: LRP is then the product of image and
gradient, and every operation that is linear or positively homogeneous without a bias (sums,
concatenations, pooling, ReLU, reshapes) needs no rule at all, since its plain gradient already
redistributes R in proportion to the contributions (Ancona et al. 2018; Ali et al. 2022).

Zeros cannot carry relevance that way, and some rules of the first layer give them some. Hence a
second way, on which R itself travels: `carriers`, from the first layer back to the images.
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
from torch.utils.weak import WeakIdKeyDictionary

from aopc_monitor.heatmaps.audit import Audit
from aopc_monitor.heatmaps.calls import Call, Operation, body_of, tensors_in
from aopc_monitor.heatmaps.kept import Keeper
from aopc_monitor.heatmaps.operations import AFFINE, COPIES, RESHAPES, VIEWS

Rule: TypeAlias = "Callable[[Call, BackwardRules], Any]"


class BackwardRules(TorchFunctionMode):
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
        gates: factors in [0, 1] that weigh signals (sigmoids, softmax), and tensors made of them.
        logits: from the result of a softmax over classes to what went in.
        carriers: from a tensor near the images to the tensor that carries its relevance to them.
        audit: if set, is told of the relevance that constants such as biases absorb.
    """

    def __init__(
        self, method: str, rules: Mapping[str, Rule], exact: frozenset[str] | None, images: Tensor
    ) -> None:
        super().__init__()
        self.method = method
        self.rules = rules
        self.exact = exact
        self.used: Counter[tuple[str, str]] = Counter()
        self.without_rule: set[str] = set()
        self.audit: Audit | None = None
        self.keeper = Keeper()
        self._opened: list[Operation] = []
        # All of these forget tensors that nobody else holds.
        self.gates: Any = WeakIdKeyDictionary()
        self.logits: Any = WeakIdKeyDictionary()
        self.origins: Any = WeakIdKeyDictionary()
        self.carriers: Any = WeakIdKeyDictionary()
        self._seen: Any = WeakIdKeyDictionary()
        self._seen[images] = True
        self.carried = torch.zeros_like(images, requires_grad=True)
        self.carriers[images] = self.carried

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
        body = body_of(func) if rule is None and not self._is_known(call) else None
        # Not twice: what a method of Tensor takes over from its base class reports as itself.
        if body is not None and func not in self._opened:
            with self._looking_into(func):
                return body(*args, **kwargs)
        if call.in_place:
            self.keeper.about_to_write(call.first)
        if rule is None:
            result = func(*args, **kwargs)
        else:
            result = rule(call, self)
            if call.in_place:
                made, result = result, call.first.copy_(result)
                self._hand_on(made, result)
        self._follow(call, signals, result, rule)
        return result

    def _is_known(self, call: Call) -> bool:
        # Where every gradient is exact there is nothing to look for but what has a rule.
        return call.name in (RESHAPES if self.exact is None else self.exact)

    def _is_exact(self, call: Call) -> bool:
        return self.exact is None or call.name in self.exact

    @contextmanager
    def _looking_into(self, func: Operation) -> Iterator[None]:
        """See the inner operations of a function of torch that is written in Python."""
        self._opened.append(func)
        try:
            with self:
                yield
        finally:
            self._opened.remove(func)

    def _hand_on(self, made: Tensor, written: Tensor) -> None:
        """What a rule noted of its result holds for the tensor that it was written into."""
        self.gates.pop(written, None)
        if made in self.gates:
            self.gates[written] = True

    def start_of(self, outputs: Tensor) -> Tensor:
        """Where the backward pass starts: the outputs, or the logits before a final softmax."""
        if self.is_signal(outputs):
            self._check_origin([outputs])
        logits = self.logits.get(outputs)
        return outputs if logits is None else logits.reshape(outputs.shape)

    def warn(self) -> None:
        """Name the operations without a rule that the backward pass went through."""
        if self.without_rule:
            warnings.warn(
                f"{self.method} has no rule for: {', '.join(sorted(self.without_rule))}. Their "
                "plain gradient was used, so the heatmap is not what the method's name says",
                stacklevel=2,
            )

    def note_without_rule(self, name: str, results: list[Tensor]) -> None:
        """Remember an operation without a rule, once a signal comes back through it."""
        self.used[name, ""] += 1
        for result in results:
            result.register_hook(lambda _: self.without_rule.add(name))

    def _check_origin(self, signals: list[Tensor]) -> None:
        """What no call returned was made out of sight: by TorchScript or an autograd.Function."""
        for signal in signals:
            if signal not in self._seen:
                maker = signal.grad_fn.name() if signal.grad_fn is not None else "a leaf"
                self.note_without_rule(f"a hidden operation ({maker})", [signal])
                self._seen[signal] = True

    def _follow(self, call: Call, signals: list[Tensor], result: Any, rule: Rule | None) -> None:
        """Note what a call made of the signals that it was given."""
        # An assignment to a slice returns nothing: the signal goes on in what was assigned to.
        reached = call.args[0] if call.name == "setitem" else result
        results = [tensor for tensor in tensors_in(reached) if self.is_signal(tensor)]
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
        if self.audit is not None:
            self.audit.watch(call, self.is_signal, results)
        if call.name.endswith("_as"):  # the second tensor only lends its shape
            signals = signals[:1]
        self._follow_what_it_is(call, signals, results, rule)
        self._follow_carrier(call, signals, result)

    def _follow_what_it_is(
        self, call: Call, signals: list[Tensor], results: list[Tensor], rule: Rule | None
    ) -> None:
        one = signals[0]
        layer_rule_version = self.origins.get(one)
        if (
            layer_rule_version is not None
            and call.name in COPIES
            and one._version == layer_rule_version[-1]
        ):
            before = layer_rule_version[:-1]
            self.origins.update({copy: (*before, copy._version) for copy in results})
        if call.name in VIEWS | COPIES and one in self.logits:
            self.logits.update(dict.fromkeys(results, self.logits[one]))
        if all(signal in self.gates for signal in signals) and call.name in RESHAPES | AFFINE:
            self.gates.update(dict.fromkeys(results, True))
        elif call.in_place and rule is None:
            self.gates.pop(call.first, None)

    def _follow_carrier(self, call: Call, signals: list[Tensor], result: Any) -> None:
        if not any(signal in self.carriers for signal in signals):
            return
        carriers = [self.carriers.get(signal) for signal in signals]
        if call.in_place and call.name not in AFFINE:
            self.carriers.pop(call.first, None)
        elif all(carrier is not None for carrier in carriers):
            if call.name in AFFINE and len(signals) == 1:
                # A constant scales and shifts activations; the relevance stays what it is.
                self.carriers[result] = carriers[0].expand_as(result)
            elif call.name in RESHAPES:
                moved = call.with_tensors(self._carrier_or_zeros).run()
                self.carriers.update(dict(zip(tensors_in(result), tensors_in(moved), strict=True)))

    def _carrier_or_zeros(self, value: Tensor) -> Tensor:
        if value.is_floating_point():
            carrier: Tensor = self.carriers.get(value, torch.zeros_like(value))
            return carrier
        return value  # an index or a mask


ITS_GRADIENT = "its gradient"


def _label(rule: Rule) -> str:
    """What a report calls a rule."""
    label = getattr(rule, "label", None) or getattr(rule, "__name__", repr(rule))
    return str(label).replace("_", " ")
