"""What calls of torch compute, as linear maps: convolutions, dense layers, batch normalisation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from aopc_monitor.heatmaps.engine.calls import Call, normalization_arguments
from aopc_monitor.heatmaps.rules.linear_layer import LinearMap, LinearRun
from aopc_monitor.network.sharded import are_in_blocks, bring_back


def convolution(call: Call, output: Tensor | None = None) -> LinearMap:
    """`conv1d`, `conv2d`, `conv3d`; like other readers, given what the call returned if it ran."""
    weight = call.argument(1, "weight")
    return _weighted(call, output, lambda scale: scale.view(-1, *[1] * (weight.ndim - 1)))


def deformable_convolution(call: Call, output: Tensor | None = None) -> LinearMap:
    """`torchvision.ops.deform_conv2d`: offsets and masks are constants, as gates are."""
    activations, weight, offset, mask, bias, *settings = call.args
    held = offset.detach(), mask.detach()

    def apply(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        shift = w.new_zeros(len(w)) if b is None else b
        result: Tensor = call.operation(a, w, *held, shift, *settings)
        return result

    return LinearMap(
        activations,
        lambda: (weight, bias),
        apply(activations, weight, bias) if output is None else output,
        apply,
        lambda scale: scale.view(-1, 1, 1, 1),
    )


def transposed_convolution(call: Call, output: Tensor | None = None) -> LinearMap:
    """`conv_transpose1d`, `conv_transpose2d`, `conv_transpose3d`."""
    weight, groups = call.argument(1, "weight"), call.argument(6, "groups", 1)

    def per_output(scale: Tensor) -> Tensor:
        # Weights are (in, out / groups, ...), the inputs of a group beneath each other.
        rows = scale.view(groups, 1, -1).expand(-1, len(weight) // groups, -1)
        return rows.reshape(len(weight), -1, *[1] * (weight.ndim - 2))

    return _weighted(call, output, per_output)


def fully_connected(call: Call, output: Tensor | None = None) -> LinearMap:
    """`linear`."""
    return _weighted(call, output, lambda scale: scale.view(-1, 1), channels_last=True)


def _weighted(
    call: Call,
    output: Tensor | None,
    per_output: Callable[[Tensor], Tensor],
    *,
    channels_last: bool = False,
) -> LinearMap:
    names = ("input", "weight", "bias")
    activations, weight, bias = (call.argument(i, name) for i, name in enumerate(names))

    def apply(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        others = {k: v for k, v in call.kwargs.items() if k not in names}
        result: Tensor = call.operation(a, w, b, *call.args[3:], **others)
        return result

    output = call.run() if output is None else output
    # Batch normalisation of more dimensions works along another axis than the features.
    scaled = None if channels_last and output.ndim != 2 else per_output
    return LinearMap(
        activations, lambda: (weight, bias), output, apply, scaled, channels_last=channels_last
    )


def matrix_product_plus(call: Call, output: Tensor | None = None) -> LinearMap:
    """`addmm`: bias + activations @ weight."""
    bias, activations, weight = (
        call.argument(position, name) for position, name in enumerate(("input", "mat1", "mat2"))
    )
    beta, alpha = call.kwargs.get("beta", 1), call.kwargs.get("alpha", 1)
    return LinearMap(
        activations,
        lambda: (weight * alpha, bias * beta),
        call.run() if output is None else output,
        _matrix_product,
        channels_last=True,
    )


def _matrix_product(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    return a @ w if b is None else a @ w + b


# The backward pass of torch's batch normalisation takes several times as long as what it does for
# the inputs; of fewer numbers than this, as long as finding the factors.
MANY_NUMBERS = 2**15


def batch_norm(call: Call, before: LinearRun | None) -> LinearRun:
    """Batch normalisation by running statistics, fused with the layer before it if there is one."""
    if before is None or not before.can_be_scaled:
        return LinearRun.of(_channelwise(call, call.first))
    # The stabiliser of the layer before, if any, is left out: only the fused map counts.
    is_plain = type(before.output) is Tensor and not are_in_blocks()
    has_many = is_plain and before.output.numel() >= MANY_NUMBERS
    if not has_many and not before.factors:
        output: Tensor = call.run_on(before.output)
        if are_in_blocks() and output.requires_grad:  # the layer before may be in another one
            output.register_hook(lambda signal: _bring(call, before.read()))
        return LinearRun(before.input, output, output, partial(_fused, call, before, output))
    output = call.run_on(before.output.detach())
    factors = (*_factors(normalization_arguments(call), output), *before.factors)
    read = partial(_fused, call, before, output)
    return LinearRun(before.input, output, before.source, read, factors=factors)


def _factors(named: dict[str, Any], output: Tensor) -> tuple[Tensor, ...]:
    """What the signal at the outputs is multiplied by, in the steps and the precision of torch."""
    variance, weight = named["running_var"], named.get("weight")
    variance = variance.double() if variance.is_cpu else variance
    inverse = torch.add(variance, named.get("eps", 1e-5)).rsqrt_()
    shape = (1, -1, *[1] * (output.ndim - 2))
    found = (inverse,) if weight is None else (inverse, weight)
    return tuple(factor.to(output.dtype).view(shape) for factor in found)


def _fused(call: Call, run: LinearRun, output: Tensor) -> LinearMap:
    before = run.read()
    return LinearMap(
        before.input,
        partial(_fused_parameters, call, before),
        output,
        before.apply,
        before.per_output,
        channels_last=before.channels_last,
    )


def _bring(call: Call, before: LinearMap) -> None:
    named = normalization_arguments(call)
    bring_back([before.weight, before.bias, named.get("weight"), named.get("bias")])


def _fused_parameters(call: Call, before: LinearMap) -> tuple[Tensor, Tensor]:
    assert before.per_output is not None
    _bring(call, before)
    scale, shift = _scale_and_shift(call, call.first)
    bias = shift if before.bias is None else before.bias * scale + shift
    return before.weight * before.per_output(scale), bias


def _channelwise(call: Call, values: Tensor) -> LinearMap:
    shape = (1, -1, *[1] * (values.ndim - 2))

    def apply(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return a * w.view(shape) if b is None else a * w.view(shape) + b.view(shape)

    return LinearMap(
        values, lambda: _scale_and_shift(call, values), call.run(), apply, one_to_one=True
    )


def _scale_and_shift(call: Call, values: Tensor) -> tuple[Tensor, Tensor]:
    named = normalization_arguments(call)
    mean, variance = named["running_mean"], named["running_var"]
    weight, bias = named.get("weight"), named.get("bias")
    scale = torch.rsqrt(variance + named.get("eps", 1e-5))
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    return scale.detach().to(values.dtype), shift.detach().to(values.dtype)
