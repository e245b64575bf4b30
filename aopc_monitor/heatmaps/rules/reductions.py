"""Reductions that are no sums: products, variances, and soft maxima."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules, Rule
from aopc_monitor.heatmaps.engine.calls import Call
from aopc_monitor.heatmaps.engine.substitution import scaled, substitute


def product_of_elements(call: Call, mode: BackwardRules) -> Any:
    """prod: each of n factors gets R / n, as of a product of tensors (Achtibat et al. 2024)."""
    values = call.first
    count = values.numel() / max(call.run().numel(), 1)
    return call.with_first(scaled(values, 1 / count)).run()


def running_product(call: Call, mode: BackwardRules) -> Any:
    """cumprod: the k-th result is a product of k factors, which share equally."""
    result: Tensor = call.run()
    dim = call.argument(1, "dim")
    shape = [1] * result.ndim
    shape[dim] = -1
    counts = torch.arange(1, result.shape[dim] + 1, device=result.device).view(shape)
    return substitute(result, result, lambda signal: signal / counts)


def variance(call: Call, mode: BackwardRules) -> Any:
    """var: a mean of squares of what is centred. x dvar/dx is 2 var: squares have two factors."""
    return call.with_first(scaled(call.first, 0.5)).run()


def variance_and_mean(call: Call, mode: BackwardRules) -> Any:
    """var_mean: the variance as `variance`, the mean as a sum."""
    of_values, mean = call.run()
    return scaled(of_values, 0.5), mean


def soft_maximum(call: Call, mode: BackwardRules) -> Tensor:
    """logsumexp: shares by its weights softmax(x), which sum to one (Kauffmann et al. 2020).

    R_i = sum_j softmax(x)_ij R_j. What goes to activations of zero is taken by constants.
    """
    kept = mode.keeper.keep(call.first)
    result = call.run().detach()

    def backward(signal: Tensor) -> Tensor:
        with torch.enable_grad():
            values = kept.value.clone().requires_grad_()
            again = call.with_first(values).run()
        (relevance,) = torch.autograd.grad(again, values, signal * again.detach())
        is_zero = kept.value == 0
        if mode.audit is not None:
            mode.note_absorbed(relevance[is_zero])
        return torch.where(is_zero, 0.0, relevance / kept.value)

    return substitute(call.first, result, backward)


REDUCTIONS: dict[str, Rule] = {
    "prod": product_of_elements,
    "cumprod": running_product,
    "var": variance,
    "var_mean": variance_and_mean,
    "logsumexp": soft_maximum,
    "logcumsumexp": soft_maximum,
}
