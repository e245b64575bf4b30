"""ReLU under LRP-epsilon: its own gradient, and the stabiliser of the layer right before it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules
from aopc_monitor.heatmaps.engine.calls import Call
from aopc_monitor.heatmaps.engine.marks import Stabilized
from aopc_monitor.heatmaps.engine.saved_values import share_memory
from aopc_monitor.heatmaps.engine.substitution import substitute
from aopc_monitor.heatmaps.engine.treatments import ITS_GRADIENT
from aopc_monitor.heatmaps.rules.behind_layer import layer_before
from aopc_monitor.heatmaps.rules.stabilizer import damp_rectified


def rectifier(call: Call, mode: BackwardRules) -> Any:
    """ReLU: its own gradient.

    Behind a layer z with a stabiliser, a = max(0, z) tells all that the backward passes of both
    need: the signal g at a is g a / (a + epsilon) at z, and 0 where a is. So z need not be kept,
    which a network without rules does not do either.
    """
    layer = layer_before(call, mode)
    if layer is None:
        return _by_itself(call, mode, None)
    if call.in_place:
        # The layer's backward pass reads what is written over z, unless z was used elsewhere.
        return _by_itself(call, mode, layer if mode.may_be_rectified(call.first) else None)
    result = torch.relu(call.first.detach())
    kept = mode.keeper.keep(result)
    copy = share_memory(result, call.first)

    def backward(signal: Tensor) -> Tensor:
        return layer.handed_on(damp_rectified(signal, kept.value, layer.epsilon))

    return substitute(layer.source, result, backward, copy=copy)


def _by_itself(call: Call, mode: BackwardRules, layer: Stabilized | None) -> Any:
    if call.in_place:
        mode.keeper.about_to_write(call.first, spared=None if layer is None else layer.kept)
        mode.mark_signal(call.first)  # whatever it was before
    if layer is not None:
        mode.rectify(layer)
    return call.operation(*call.args, **call.kwargs)


rectifier.label = ITS_GRADIENT  # type: ignore[attr-defined]
