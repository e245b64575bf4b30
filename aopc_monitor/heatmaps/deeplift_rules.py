"""The rules of DeepLIFT: multipliers of differences in place of derivatives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules, Rule
from aopc_monitor.heatmaps.engine.calls import Call, normalization_arguments, tensors_in
from aopc_monitor.heatmaps.engine.operations import (
    ELEMENTWISE,
    IDENTITIES_IN_EVAL,
    POSITIVELY_HOMOGENEOUS_ACTIVATIONS,
    RESHAPES,
    SUMS,
)
from aopc_monitor.heatmaps.engine.substitution import substitute
from aopc_monitor.heatmaps.rules.linear_operation import LINEAR, MATRIX_PRODUCTS
from aopc_monitor.heatmaps.rules.products import TWO_FACTORS, factors_of
from aopc_monitor.heatmaps.rules.quantized import FAKE_QUANTIZERS
from aopc_monitor.heatmaps.rules.recurrent import RECURRENT

POOLS = tuple(f"{kind}max_pool{d}d" for kind in ("", "adaptive_") for d in (1, 2, 3))
EXTREMES = ("amax", "amin", "max", "maximum", "min", "minimum")
# These are linear whatever their places and masks are made of.
EXACT = RESHAPES | SUMS | IDENTITIES_IN_EVAL | {"tril", "triu", "slice_scatter", "index_copy"}


@dataclass
class Reference:
    """Arguments and results of the reference's calls, in their order."""

    calls: list[tuple[str, list[Tensor], Tensor]] = field(default_factory=list)
    is_complete: bool = False

    def remember(self, call: Call, inputs: list[Tensor], output: Tensor) -> None:
        """Add a call."""
        self.calls.append(
            (call.name, [t.detach().clone() for t in inputs], output.detach().clone())
        )

    def next(self, call: Call, inputs: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """The reference's inputs and output of the call that comes next."""
        name, before, output = self.calls.pop(0) if self.calls else ("nothing", [], Tensor())
        if name != call.name or [t.shape for t in before] != [t.shape for t in inputs]:
            raise ValueError(
                f"DeepLIFT met {call.name} on the images where it met {name} on the baseline: the "
                "network must do the same with every image"
            )
        return before, output


def deeplift_rules(memory: Reference) -> dict[str, Rule]:
    """The table of DeepLIFT, which remembers or looks up what the reference became."""

    def rescale(call: Call, mode: BackwardRules) -> Tensor:
        return _rescale(call, mode, memory)

    def pool(call: Call, mode: BackwardRules) -> Any:
        return _pool(call, memory)

    def extreme(call: Call, mode: BackwardRules) -> Any:
        return _over_dimensions(call, mode, memory)

    def product(call: Call, mode: BackwardRules) -> Any:
        return _product(call, mode, memory)

    others = ("sigmoid", "hardsigmoid", "straight_through", "nan_to_num", *FAKE_QUANTIZERS)
    rescaled = (*ELEMENTWISE, *POSITIVELY_HOMOGENEOUS_ACTIVATIONS, *others)
    return {
        **dict.fromkeys(rescaled, rescale),
        **dict.fromkeys(POOLS, pool),
        **dict.fromkeys(EXTREMES, extreme),
        **dict.fromkeys(LINEAR, _linear),
        **dict.fromkeys(("softmax", "log_softmax"), softmax),
        **dict.fromkeys(TWO_FACTORS, product),
        **dict.fromkeys(MATRIX_PRODUCTS, product),
        "div": _quotient,
        "glu": _gated_linear_unit,
        **RECURRENT,
    }


def softmax(call: Call, mode: BackwardRules) -> Tensor:
    """Softmax at the end of a network, which is passed by; elsewhere it has no rule."""
    result: Tensor = call.run()
    mode.mark_logits(result, call.first)
    mode.note_without_rule(call.name, [result])
    return result


def _linear(call: Call, mode: BackwardRules) -> Any:
    """Linear operation: its own gradient, as long as its weights are constants."""
    result = call.run()
    named = normalization_arguments(call) if call.name == "batch_norm" else {}
    by_batch = bool(named) and (named.get("training") or named.get("running_mean") is None)
    signals = sum(mode.is_signal(value) for value in tensors_in((call.args, call.kwargs)))
    if by_batch or signals > 1:
        what = "by statistics of the batch" if by_batch else "with weights made of the images"
        mode.note_without_rule(f"{call.name} {what}", [result])
    return result


def _rescale(call: Call, mode: BackwardRules, memory: Reference) -> Tensor:
    """Elementwise nonlinearity: m = (y - y') / (x - x') (Shrikumar et al. 2017, eq. 10)."""
    # In 2 ** x the first signal is the exponent; the base is none.
    source = next(t for t in tensors_in((call.args, call.kwargs)) if mode.is_signal(t))
    inputs = source.detach().clone()
    output: Tensor = call.run()
    if not memory.is_complete:
        memory.remember(call, [inputs], output)
        return output
    (before,), after = memory.next(call, [inputs])
    difference = inputs - before
    multiplier = (output.detach() - after) / difference
    same = _is_rounding(difference, inputs, before)
    if bool(same.any()):
        multiplier = torch.where(same, _derivative(call, source, inputs), multiplier)
    return substitute(source, output, lambda signal: signal * multiplier)


def _is_rounding(difference: Tensor, inputs: Tensor, before: Tensor) -> Tensor:
    """A mask of where a quotient of differences is noise; the derivative, its limit, is not."""
    precision = 16 * torch.finfo(difference.dtype).eps
    return difference.abs() <= 1e-10 + precision * (inputs.abs() + before.abs())


def _derivative(call: Call, source: Tensor, inputs: Tensor) -> Tensor:
    with torch.enable_grad():
        inputs = inputs.requires_grad_()
        output = call.with_tensors(lambda value: inputs if value is source else value).run()
        (derivative,) = torch.autograd.grad(output.sum(), inputs)
    return derivative


def _pool(call: Call, memory: Reference) -> Any:
    """Max pooling: a maximum over each window."""
    inputs = call.first
    output, position = _pooled(call, inputs.detach())
    result = call.run()
    if not memory.is_complete:
        memory.remember(call, [inputs, position], output)
        return result
    (before, before_position), after = memory.next(call, [inputs, position])
    image = _Extreme(inputs.detach().clone(), position, output)
    reference = _Extreme(before, before_position, after)
    highest = torch.maximum(output, after)
    return substitute(inputs, result, lambda signal: _shared(signal, image, reference, highest))


def _over_dimensions(call: Call, mode: BackwardRules, memory: Reference) -> Any:
    """`amax`, `amin`, `max` and `min`: one window over the dimensions, or a pair of values."""
    second = call.argument(1, "other")
    if isinstance(second, Tensor):
        with mode:
            pair = torch.stack(torch.broadcast_tensors(call.first, second))
            return pair.amin(dim=0) if call.name.startswith("min") else pair.amax(dim=0)
    result = call.run()
    output = result if isinstance(result, Tensor) else result[0]
    windows, inputs = _Windows.of(call), call.first
    values, is_lowest = windows.of_values(inputs.detach()), "min" in call.name
    position = values.argmin(2, keepdim=True) if is_lowest else values.argmax(2, keepdim=True)
    image = _Extreme(values.clone(), position, output.detach().reshape(position.shape).clone())
    if not memory.is_complete:
        memory.remember(call, [image.inputs, position], image.output)
        return result
    (before, before_position), after = memory.next(call, [image.inputs, position])
    reference = _Extreme(before, before_position, after)
    pick = torch.minimum if is_lowest else torch.maximum
    extreme = pick(image.output, reference.output)

    def backward(signal: Tensor) -> Tensor:
        of_windows = signal.reshape(position.shape)
        return windows.undone(_shared(of_windows, image, reference, extreme), inputs)

    substituted = substitute(inputs, output, backward)
    return substituted if result is output else type(result)((substituted, result[1]))


class _Windows(NamedTuple):
    """The dimensions that a call works along, as windows: (windows, 1, values)."""

    order: tuple[int, ...]
    along: int

    @classmethod
    def of(cls, call: Call) -> _Windows:
        dims, rank = call.argument(1, "dim", ()), call.first.ndim
        given = (dims,) if isinstance(dims, int) else tuple(dims or range(rank))
        along = [d % rank for d in given]
        return cls((*(d for d in range(rank) if d not in along), *along), len(along))

    def of_values(self, values: Tensor) -> Tensor:
        moved = values.permute(self.order)
        size = moved.shape[moved.ndim - self.along :].numel()
        return moved.reshape(-1, 1, size)

    def undone(self, values: Tensor, like: Tensor) -> Tensor:
        moved = values.reshape(like.permute(self.order).shape)
        return moved.permute(tuple(self.order.index(d) for d in range(like.ndim)))


class _Extreme(NamedTuple):
    """What went into windows, where in them the largest or smallest value is, and that value."""

    inputs: Tensor
    position: Tensor
    output: Tensor


def _shared(signal: Tensor, image: _Extreme, reference: _Extreme, extreme: Tensor) -> Tensor:
    """Differences go to where the maximum of the image, or of the reference, is.

    With m the larger of both maxima (the smaller of both minima), m - y' goes to the image's
    position and y - m to the reference's, as in the authors' and captum's implementations.
    """
    before = reference.inputs
    to_image = _scattered(signal * (extreme - reference.output), image.position, before)
    to_reference = _scattered(signal * (image.output - extreme), reference.position, before)
    difference = image.inputs - before
    same = _is_rounding(difference, image.inputs, before)
    gradient = _scattered(signal, image.position, before)
    return torch.where(same, gradient, (to_image + to_reference) / difference)


def _scattered(values: Tensor, positions: Tensor, like: Tensor) -> Tensor:
    """Values added up at positions of a zero tensor."""
    flat = torch.zeros_like(like).flatten(2)
    return flat.scatter_add(2, positions.flatten(2), values.flatten(2)).view_as(like)


def _pooled(call: Call, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Result and positions of the maxima."""
    with_indices = getattr(F, f"{call.name}_with_indices")
    kwargs = {k: v for k, v in call.kwargs.items() if k not in ("input", "return_indices")}
    output, positions = with_indices(inputs, *call.args[1:6], **kwargs)
    return output, positions


def _product(call: Call, mode: BackwardRules, memory: Reference) -> Any:
    """Product of two signals: the difference is dx (y + y') / 2 + dy (x + x') / 2, exactly."""
    factors = factors_of(call)
    output = call.run()
    if sum(mode.is_signal(value) for value in factors.values) < 2:
        return output
    if len(factors.values) != 2:
        mode.note_without_rule(f"{call.name} of several values of the images", [output])
        return output
    first, second = factors.values
    if not memory.is_complete:
        memory.remember(call, [first, second], output)
        return output
    (one, other), _ = memory.next(call, [first, second])
    halves = (first.detach() + one) / 2, (second.detach() + other) / 2
    on_graph = (
        factors.rebuild([first, halves[1]]).run() + factors.rebuild([halves[0], second]).run()
    )
    return substitute(on_graph, output, lambda signal: signal)


def _quotient(call: Call, mode: BackwardRules) -> Any:
    """A quotient x / y is the product of x and 1 / y."""
    numerator, denominator = call.first, call.argument(1, "other")
    if not mode.is_signal(denominator):
        return call.run()
    if call.kwargs.get("rounding_mode") is not None:
        result: Tensor = call.run()
        mode.note_without_rule("div that rounds, by a value that depends on the images", [result])
        return result
    with mode:
        product = numerator * denominator.reciprocal()
    return substitute(product, call.run(), lambda signal: signal)


def _gated_linear_unit(call: Call, mode: BackwardRules) -> Any:
    """GLU: the product of its first half and the sigmoid of its second one."""
    with mode:
        first, second = call.first.chunk(2, dim=call.argument(1, "dim", -1))
        return first * second.sigmoid()
