"""Linear operations as LRP sees them: contributions z_ij = a_i w_ij, whichever call made them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from aopc_monitor.heatmaps.engine.calls import Call

Apply = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]


@dataclass(frozen=True)
class LinearCall:
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
        channels_last: whether output channels are the last dimension, and not the second.
    """

    input: Tensor
    weight: Tensor
    bias: Tensor | None
    output: Tensor
    apply: Apply
    per_output: Callable[[Tensor], Tensor] | None = None
    one_to_one: bool = False
    channels_last: bool = False


def convolution(call: Call) -> LinearCall:
    """`conv1d`, `conv2d`, `conv3d`."""
    return _weighted(call, lambda scale, weight: scale.view(-1, *[1] * (weight.ndim - 1)))


def transposed_convolution(call: Call) -> LinearCall:
    """`conv_transpose1d`, `conv_transpose2d`, `conv_transpose3d`."""
    groups = call.argument(6, "groups", 1)

    def per_output(scale: Tensor, weight: Tensor) -> Tensor:
        # Weights are (in, out / groups, ...), the inputs of a group beneath each other.
        rows = scale.view(groups, 1, -1).expand(-1, len(weight) // groups, -1)
        return rows.reshape(len(weight), -1, *[1] * (weight.ndim - 2))

    return _weighted(call, per_output)


def fully_connected(call: Call) -> LinearCall:
    """`linear`."""
    layer = replace(_weighted(call, lambda scale, weight: scale.view(-1, 1)), channels_last=True)
    # With more dimensions, batch normalisation works along another axis than the features.
    return layer if layer.output.ndim == 2 else replace(layer, per_output=None)


def _weighted(call: Call, per_output: Callable[[Tensor, Tensor], Tensor]) -> LinearCall:
    activations, weight, bias = (
        call.argument(position, name) for position, name in enumerate(("input", "weight", "bias"))
    )
    others = {k: v for k, v in call.kwargs.items() if k not in ("input", "weight", "bias")}

    def apply(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        result: Tensor = call.operation(a, w, b, *call.args[3:], **others)
        return result

    return LinearCall(
        activations, weight, bias, call.run(), apply, lambda scale: per_output(scale, weight)
    )


def matrix_product_plus(call: Call) -> LinearCall:
    """`addmm`: bias + activations @ weight."""
    bias, activations, weight = (
        call.argument(position, name) for position, name in enumerate(("input", "mat1", "mat2"))
    )
    beta, alpha = call.kwargs.get("beta", 1), call.kwargs.get("alpha", 1)
    return LinearCall(
        activations, weight * alpha, bias * beta, call.run(), _matrix_product, channels_last=True
    )


def _matrix_product(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    return a @ w if b is None else a @ w + b


def batch_norm(call: Call, before: LinearCall | None) -> LinearCall:
    """Batch normalisation by running statistics, fused with the layer before it if there is one."""
    values = call.first
    scale, shift = _scale_and_shift(call, values)
    if before is None or before.per_output is None:
        return _channelwise(call, values, scale, shift)
    return replace(
        before,
        weight=before.weight * before.per_output(scale),
        bias=shift if before.bias is None else before.bias * scale + shift,
        # The stabiliser of the layer before, if any, is left out: only the fused map counts.
        output=call.with_first(before.output).run(),
    )


def _channelwise(call: Call, values: Tensor, scale: Tensor, shift: Tensor) -> LinearCall:
    shape = (1, -1, *[1] * (values.ndim - 2))

    def apply(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return a * w.view(shape) if b is None else a * w.view(shape) + b.view(shape)

    return LinearCall(values, scale, shift, call.run(), apply, one_to_one=True)


def _scale_and_shift(call: Call, values: Tensor) -> tuple[Tensor, Tensor]:
    named = normalization_arguments(call)
    mean, variance = named["running_mean"], named["running_var"]
    weight, bias = named.get("weight"), named.get("bias")
    scale = torch.rsqrt(variance + named.get("eps", 1e-5))
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    return scale.detach().to(values.dtype), shift.detach().to(values.dtype)


def normalization_arguments(call: Call) -> dict[str, Any]:
    """Arguments of a normalisation by name; `torch` and `torch.nn.functional` order them otherwise.

    Example:
        >>> from torch.nn import functional as F
        >>> statistics = torch.zeros(3), torch.ones(3)
        >>> call = Call(F.batch_norm, (torch.rand(2, 3), *statistics), {"eps": 1e-3})
        >>> [name for name in normalization_arguments(call)]
        ['input', 'running_mean', 'running_var', 'eps']
    """
    order = (_OF_FUNCTIONAL if isinstance(call.operation, FunctionType) else _OF_TORCH)[call.name]
    named = {**dict(zip(order, call.args, strict=False)), **call.kwargs}
    if "use_input_stats" in named:
        named["training"] = named["use_input_stats"]
    return named


_AFFINE_AND_STATISTICS = ("weight", "bias", "running_mean", "running_var")
_STATISTICS_AND_AFFINE = ("running_mean", "running_var", "weight", "bias")
_SAME = {
    "layer_norm": ("input", "normalized_shape", "weight", "bias", "eps"),
    "group_norm": ("input", "num_groups", "weight", "bias", "eps"),
    "rms_norm": ("input", "normalized_shape", "weight", "eps"),
}
_OF_FUNCTIONAL = {
    **_SAME,
    "batch_norm": ("input", *_STATISTICS_AND_AFFINE, "training", "momentum", "eps"),
    "instance_norm": ("input", *_STATISTICS_AND_AFFINE, "use_input_stats", "momentum", "eps"),
}
_OF_TORCH = {
    **_SAME,
    "batch_norm": ("input", *_AFFINE_AND_STATISTICS, "training", "momentum", "eps"),
    "instance_norm": ("input", *_AFFINE_AND_STATISTICS, "use_input_stats", "momentum", "eps"),
}
