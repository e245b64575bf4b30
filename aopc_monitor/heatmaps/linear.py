"""Linear operations as LRP sees them: contributions z_ij = a_i w_ij, whichever call made them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from aopc_monitor.heatmaps.backward import BackwardRules, Rule
from aopc_monitor.heatmaps.calls import Call
from aopc_monitor.heatmaps.operations import CONVOLUTIONS, PRODUCTS, TRANSPOSED_CONVOLUTIONS


@dataclass(frozen=True)
class LinearLayer:
    """One linear operation on activations, z_j = sum_i a_i w_ij + b_j (eq. 1 and 2).

    Attributes:
        input: the activations a.
        weight: w; batch normalisation that follows is multiplied in.
        bias: b, or None.
        output: z, on the graph of the plain forward pass.
        apply: (a, w, b) -> z.
        per_output: makes a vector of one number per output channel broadcast against the weight;
            None where that cannot be.
        one_to_one: whether each output depends on a single input.
    """

    input: Tensor
    weight: Tensor
    bias: Tensor | None
    output: Tensor
    apply: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    per_output: Callable[[Tensor], Tensor] | None = None
    one_to_one: bool = False


LinearRule: TypeAlias = Callable[[LinearLayer], Tensor]


def linear_rules(rule: LinearRule) -> dict[str, Rule]:
    """A table that gives every linear operation the same rule."""

    def of(read: Callable[[Call], LinearLayer]) -> Rule:
        def apply(call: Call, mode: BackwardRules) -> Tensor:
            return _linear(call, mode, read, rule)

        return apply

    table = {name: of(_convolution) for name in CONVOLUTIONS}
    table |= {name: of(_transposed_convolution) for name in TRANSPOSED_CONVOLUTIONS}
    table["linear"] = of(_fully_connected)
    table["addmm"] = of(_addmm)
    table |= {name: lambda call, mode: _product(call, mode, rule) for name in PRODUCTS}
    table["batch_norm"] = lambda call, mode: _batch_norm(call, mode, rule)
    return table


def _linear(
    call: Call, mode: BackwardRules, read: Callable[[Call], LinearLayer], rule: LinearRule
) -> Tensor:
    layer = read(call)
    if mode.is_signal(layer.weight) or mode.is_signal(layer.bias):
        mode.without_rule.add(f"{call.name} with weights that depend on the images")
        return layer.output
    result = rule(layer)
    # The version tells later whether somebody wrote into the result in between.
    mode.origins[result] = (layer, result._version)
    return result


def _convolution(call: Call) -> LinearLayer:
    return _weighted(call, lambda scale, weight: scale.view(-1, *[1] * (weight.ndim - 1)))


def _transposed_convolution(call: Call) -> LinearLayer:
    groups = call.argument(6, "groups", 1)

    def per_output(scale: Tensor, weight: Tensor) -> Tensor:
        # Weights are (in, out / groups, ...), the inputs of a group beneath each other.
        rows = scale.view(groups, 1, -1).expand(-1, len(weight) // groups, -1)
        return rows.reshape(len(weight), -1, *[1] * (weight.ndim - 2))

    return _weighted(call, per_output)


def _fully_connected(call: Call) -> LinearLayer:
    layer = _weighted(call, lambda scale, weight: scale.view(-1, 1))
    # With more dimensions, batch normalisation works along another axis than the features.
    return layer if layer.output.ndim == 2 else replace(layer, per_output=None)


def _weighted(call: Call, per_output: Callable[[Tensor, Tensor], Tensor]) -> LinearLayer:
    activations, weight, bias = (
        call.argument(position, name) for position, name in enumerate(("input", "weight", "bias"))
    )
    others = {k: v for k, v in call.kwargs.items() if k not in ("input", "weight", "bias")}

    def apply(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        result: Tensor = call.operation(a, w, b, *call.args[3:], **others)
        return result

    return LinearLayer(
        activations, weight, bias, call.run(), apply, lambda scale: per_output(scale, weight)
    )


def _addmm(call: Call) -> LinearLayer:
    bias, activations, weight = (
        call.argument(position, name) for position, name in enumerate(("input", "mat1", "mat2"))
    )
    return LinearLayer(activations, weight, bias, call.run(), _matrix_product)


def _matrix_product(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    return a @ w if b is None else a @ w + b


def _product(call: Call, mode: BackwardRules, rule: LinearRule) -> Tensor:
    left = call.first
    right = call.argument(1, "mat2" if "mat2" in call.kwargs else "other")
    output: Tensor = call.run()
    if mode.is_signal(left) and mode.is_signal(right):
        mode.without_rule.add(f"{call.name} of two values that both depend on the images")
        return output
    if mode.is_signal(left):
        return rule(LinearLayer(left, right, None, output, _matrix_product))
    return rule(LinearLayer(right, left, None, output, lambda a, w, b: _matrix_product(w, a, b)))


def _batch_norm(call: Call, mode: BackwardRules, rule: LinearRule) -> Tensor:
    """Batch normalisation by running statistics, fused with the layer before it if there is one."""
    values = call.first
    if call.operation is not F.batch_norm or call.argument(5, "training", False):
        direct = call.operation is not F.batch_norm
        mode.without_rule.add(
            f"batch_norm {'of torch' if direct else 'by statistics of the batch'}"
        )
        result: Tensor = call.run()
        return result
    scale, shift = _scale_and_shift(call, values)
    before, version = mode.origins.get(values, (None, None))
    if before is None or before.per_output is None or values._version != version:
        return rule(_channelwise(call, values, scale, shift))
    bias = shift if before.bias is None else before.bias * scale + shift
    return rule(
        replace(
            before,
            weight=before.weight * before.per_output(scale),
            bias=bias,
            # The stabiliser of the layer before, if any, is left out: only the fused map counts.
            output=F.batch_norm(before.output, *call.args[1:], **_without(call.kwargs, "input")),
        )
    )


def _channelwise(call: Call, values: Tensor, scale: Tensor, shift: Tensor) -> LinearLayer:
    shape = (1, -1, *[1] * (values.ndim - 2))

    def apply(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return a * w.view(shape) if b is None else a * w.view(shape) + b.view(shape)

    return LinearLayer(values, scale, shift, call.run(), apply, one_to_one=True)


def _scale_and_shift(call: Call, values: Tensor) -> tuple[Tensor, Tensor]:
    mean, variance, weight, bias = (
        call.argument(position, name)
        for position, name in enumerate(("running_mean", "running_var", "weight", "bias"), start=1)
    )
    scale = torch.rsqrt(variance + call.argument(7, "eps", 1e-5))
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    return scale.detach().to(values.dtype), shift.detach().to(values.dtype)


def _without(kwargs: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in kwargs.items() if key != name}
