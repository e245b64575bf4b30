"""Activations right behind a layer with a stabiliser: one backward pass for both.

An activation a = f(z) passes relevance unchanged, g a / z, and the layer's stabiliser leaves the
share |z| / (|z| + epsilon) of that: together g a / (z + epsilon sign(z)). The quotient is made in
the forward pass and takes the place of z, so that a backward pass reads each number once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules
from aopc_monitor.heatmaps.engine.calls import Call
from aopc_monitor.heatmaps.engine.marks import Stabilized, through_factors
from aopc_monitor.heatmaps.engine.saved_values import share_memory
from aopc_monitor.heatmaps.engine.substitution import substitute, substitute_in_place

# These are zero at zero, where an activation of its own gets no relevance.
_ZERO_AT_ZERO = frozenset({
    "celu", "elu", "gelu", "hardswish", "hardtanh", "mish", "relu6", "selu", "silu", "tanh",
})  # fmt: skip


def layer_before(call: Call, mode: BackwardRules) -> Stabilized | None:
    """The layer with a stabiliser whose outputs a call is given; None if two passes are needed."""
    if mode.audit is not None:  # which counts what each of them keeps
        return None
    layer = mode.stabilized(call.first)
    # FSDP2 puts a hook on what leaves a block, which brings its weights: it must not be gone round.
    if layer is None or type(call.first) is not Tensor or call.first._backward_hooks:
        return None
    return layer


def with_layer_before(call: Call, mode: BackwardRules) -> Tensor | None:
    """What an activation returns, with a backward pass for the layer before it as well.

    None if there is no such layer, or the activation is not zero at zero.
    """
    if call.name not in _ZERO_AT_ZERO:
        return None
    layer = layer_before(call, mode)
    if layer is None or not layer.kept.value.is_floating_point():
        return None
    low, high = 0.0, 0.0
    if call.name == "hardtanh":
        low, high = call.argument(1, "min_val", -1.0), call.argument(2, "max_val", 1.0)
    if not low <= 0 <= high:
        return None
    share = layer.kept.value.abs().add_(layer.epsilon)
    if call.name != "relu6" and (call.name != "hardtanh" or low < 0):
        share.copysign_(layer.kept.value)
    return _applied(call, mode, layer, share)


def _applied(call: Call, mode: BackwardRules, layer: Stabilized, share: Tensor) -> Tensor:
    """What the call returns; the share is a sum, and becomes what the signal is multiplied by."""
    factors = layer.factors  # alone, so that nothing keeps the values of the layer

    def backward(signal: Tensor) -> Tensor:
        return through_factors(signal * share, factors)

    if not call.in_place:
        values = call.run_on(call.first.detach())
        torch.div(values, share, out=share)
        return substitute(layer.source, values, backward, copy=share_memory(values, call.first))

    def write(tensor: Tensor) -> None:
        call.run_on(tensor)
        torch.div(tensor, share, out=share)

    spared = mode.may_be_rectified(call.first)
    mode.keeper.about_to_write(call.first, spared=layer.kept if spared else None)
    mode.has_spared_copies |= spared
    mode.mark_signal(call.first)  # whatever it was before
    return substitute_in_place(call.first, layer.source, write, backward)
