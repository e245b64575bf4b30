"""Softmax and kin that a network writes out, exp(z) / sum(exp(z)), as weights on signals.

Linear attention, attention over graphs and hand-made pooling have positive feature maps, their sums
and a quotient where others call a softmax. An exponential is a gate as a softmax is, and what is
made of gates alone (sums, quotients) stays one.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules
from aopc_monitor.heatmaps.engine.calls import Call
from aopc_monitor.heatmaps.engine.marks import GATE_RANK
from aopc_monitor.heatmaps.engine.substitution import substitute
from aopc_monitor.heatmaps.rules.nonlinear import pass_through
from aopc_monitor.heatmaps.rules.products import quotient

# Denominators often have a small constant added, and half precision is coarse.
SUM_TOLERANCE = 1e-3


def exponential(call: Call, mode: BackwardRules) -> Tensor:
    """Exponential: a positive weight, as in a softmax; else relevance passes unchanged."""
    logits = mode.logits_of(call.first)
    result = pass_through(call, mode)
    mode.mark_gate(result, GATE_RANK)
    if logits is not None:  # exp(log_softmax(z)), which is passed by at the end of a network
        mode.mark_logits(result, logits)
    return result


def exponential_linear_unit(call: Call, mode: BackwardRules) -> Tensor:
    """ELU: with 1 added, the positive features of linear attention (Katharopoulos et al. 2020)."""
    result = pass_through(call, mode)
    mode.mark_until_one_is_added(result)
    return result


def shared_exponential(call: Call, mode: BackwardRules) -> Tensor:
    """Exponential of AttnLRP: the gradient of a softmax, where its results sum to one.

    So exp(log_softmax(z)) and exp(z - logsumexp(z)) are what softmax(z) is there.
    """
    values = call.run().detach()
    dims = [d for d in range(values.ndim) if values.shape[d] > 1 and _sums_to_one(values, [d])]
    if len(dims) != 1:
        result = pass_through(call, mode)
        mode.remember_exponent(result, call.first)
        return result
    logits = mode.logits_of(call.first)
    result = _softmax(call.first if logits is None else logits, values, dims)
    if logits is not None:
        mode.mark_logits(result, logits)
    return result


def shared_quotient(call: Call, mode: BackwardRules) -> Any:
    """Quotient of AttnLRP: exp(z) / sum(exp(z)) is a softmax, whose gradient it gets."""
    numerator, denominator = call.first, call.argument(1, "other")
    exponent = mode.exponent_of(numerator) if isinstance(numerator, Tensor) else None
    if call.name != "div" or exponent is None or not mode.is_signal(denominator):
        return quotient(call, mode)
    values = call.run().detach()
    ones = [1] * (numerator.ndim - denominator.ndim) + list(denominator.shape)
    dims = [d for d, size in enumerate(numerator.shape) if size > 1 and ones[d] == 1]
    if dims and values.shape == numerator.shape and _sums_to_one(values, dims):
        return _softmax(exponent, values, dims)
    result = quotient(call, mode)
    mode.note_without_rule("div of an exponential by a sum over groups", [result])
    return result


def _sums_to_one(values: Tensor, dims: list[int]) -> bool:
    return bool(((values.sum(dim=dims) - 1).abs() < SUM_TOLERANCE).all())


def _softmax(logits: Tensor, weights: Tensor, dims: list[int]) -> Tensor:
    def backward(signal: Tensor) -> Tensor:
        return weights * (signal - (signal * weights).sum(dim=dims, keepdim=True))

    return substitute(logits, weights, backward)
