"""Quantised operations by what they mean: the same operation on numbers that were rounded.

Integers carry no gradient, so a quantised tensor is followed as the floating-point tensor that it
stands for. Rounding to a grid is elementwise, and passes relevance unchanged as an activation does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules, Rule
from aopc_monitor.heatmaps.engine.calls import Call
from aopc_monitor.heatmaps.rules.nonlinear import pass_through

CONVOLUTIONS: dict[str, Callable[..., Tensor]] = {
    "conv1d": F.conv1d,
    "conv2d": F.conv2d,
    "conv3d": F.conv3d,
}
SUMS: dict[str, Callable[..., Tensor]] = {"add": torch.add, "mul": torch.mul}


def quantization(call: Call, mode: BackwardRules) -> Tensor:
    """`quantize_per_tensor`: floating-point numbers on the grid, in place of integers."""
    scale, zero_point = call.argument(1, "scale"), call.argument(2, "zero_point")
    with mode:
        return _rounded(call.first, scale, zero_point, call.argument(3, "dtype"))


def dequantization(call: Call, mode: BackwardRules) -> Tensor:
    """`dequantize`: these numbers are floating-point already."""
    return call.first * 1


def quantized_layer(call: Call, mode: BackwardRules) -> Tensor:
    """`quantized::conv2d`, `quantized::linear_relu` and kin: their floating-point twin."""
    name = call.name.removeprefix("quantized::")
    kind = name.removesuffix("_dynamic").removesuffix("_relu")
    values, packed, *rest = call.args
    weight, bias = packed.unpack()
    weight = weight.dequantize() if weight.is_quantized else weight
    bias = None if bias is None else bias.detach()
    is_dynamic = "_dynamic" in name
    with mode:
        values = _rounded_dynamically(values) if is_dynamic else values
        if kind == "linear":
            result = F.linear(values, weight, bias)
        else:
            settings = [packed.stride(), packed.padding(), packed.dilation(), packed.groups()]
            result = CONVOLUTIONS[kind](values, weight, bias, *settings)
        result = F.relu(result) if "_relu" in name else result
        return result if is_dynamic else _rounded(result, *rest[:2])


def quantized_sum(call: Call, mode: BackwardRules) -> Tensor:
    """`quantized::add`, `quantized::mul`, `quantized::cat`."""
    name = call.name.removeprefix("quantized::")
    kind = name.removesuffix("_relu")
    first, second = call.args[:2]
    scale, zero_point = (call.argument(i, n) for i, n in ((2, "scale"), (3, "zero_point")))
    with mode:
        result = torch.cat(first, second) if kind == "cat" else SUMS[kind](first, second)
        return _rounded(F.relu(result) if name.endswith("_relu") else result, scale, zero_point)


def _rounded(
    values: Tensor, scale: Any, zero_point: Any, dtype: torch.dtype = torch.quint8
) -> Tensor:
    grid = torch.iinfo(dtype)
    return torch.fake_quantize_per_tensor_affine(
        values, float(scale), int(zero_point), grid.min, grid.max
    )


def _rounded_dynamically(values: Tensor) -> Tensor:
    """As layers do whose inputs are put on a grid of their own each time."""
    grid = torch.quantize_per_tensor_dynamic(values.detach(), torch.quint8, False)
    return _rounded(values, grid.q_scale(), grid.q_zero_point())


def _with_and_without_relu(kinds: Iterable[str], rule: Rule) -> dict[str, Rule]:
    return {f"quantized::{kind}{end}": rule for kind in kinds for end in ("", "_relu")}


FAKE_QUANTIZERS = (
    "fake_quantize_learnable_per_channel_affine", "fake_quantize_learnable_per_tensor_affine",
    "fake_quantize_per_channel_affine", "fake_quantize_per_tensor_affine",
    "fused_moving_avg_obs_fake_quant",
)  # fmt: skip
QUANTIZED: dict[str, Rule] = {
    **dict.fromkeys(FAKE_QUANTIZERS, pass_through),
    "quantize_per_tensor": quantization,
    "dequantize": dequantization,
    **_with_and_without_relu(("linear", *CONVOLUTIONS), quantized_layer),
    **_with_and_without_relu(("cat", *SUMS), quantized_sum),
    "quantized::linear_dynamic": quantized_layer,
    "quantized::linear_relu_dynamic": quantized_layer,
}
