"""Nonlinearities under LRP: elementwise functions, softmax, normalisations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules, Rule
from aopc_monitor.heatmaps.engine.calls import Call, normalization_arguments
from aopc_monitor.heatmaps.engine.marks import BOUNDED_RANK, GATE_RANK, NORMALIZER_RANK
from aopc_monitor.heatmaps.engine.saved_values import share_memory
from aopc_monitor.heatmaps.engine.substitution import substitute
from aopc_monitor.heatmaps.rules.behind_layer import with_layer_before
from aopc_monitor.heatmaps.rules.stabilizer import damp, damping

# A quotient by a number that is smaller than this may overflow.
TINY = 1e-30


def pass_through(call: Call, mode: BackwardRules) -> Tensor:
    """Elementwise nonlinearity: relevance goes to the input unchanged (section II-C, point 2).

    R_i = R_j, so g_i = g_j a_j / a_i. Where a positively homogeneous activation has this as its
    plain gradient, it needs no rule.
    """
    with_layer = with_layer_before(call, mode)
    if with_layer is not None:
        return with_layer
    # In 2 ** x the first signal is the exponent; the base is none.
    inputs = next(tensor for tensor in call.tensors if mode.is_signal(tensor))
    before = mode.keeper.keep(inputs)
    if call.in_place:
        # The result is about to be written over the inputs, so a copy of them is kept.
        before.move()
    result = call.run().detach()
    after = mode.keeper.keep(result)

    def backward(signal: Tensor) -> Tensor:
        tiny = before.value.abs() < TINY
        if mode.audit is not None:
            # A zero that became something else, as by exp(0) = 1, was made so by a constant.
            taken = torch.where(tiny & (signal != 0), signal.conj() * after.value, 0.0)
            mode.note_absorbed(taken.real)
        # The conjugate matters to complex numbers alone, whose relevance is Re(a conj(g)).
        return torch.where(tiny, 0.0, signal * (after.value / before.value).conj())

    return substitute(inputs, result, backward, copy=share_memory(result, inputs))


def gate(call: Call, mode: BackwardRules) -> Tensor:
    """Sigmoid or softmax: weighs signals (see `products`); else relevance passes unchanged."""
    inputs = call.first
    result = pass_through(call, mode)
    mode.mark_gate(result, GATE_RANK)
    if call.name == "softmax":
        mode.mark_attention(result)
        mode.mark_logits(result, inputs)
    return result


def bounded(call: Call, mode: BackwardRules) -> Tensor:
    """tanh, erf, ReLU6: weighs what is not bounded, as in a GELU written by hand; else a signal."""
    result = pass_through(call, mode)
    mode.mark_gate(result, BOUNDED_RANK)
    return result


def normalizer(call: Call, mode: BackwardRules) -> Tensor:
    """1 / sqrt(x), 1 / x and other negative powers: what they multiply gets all relevance.

    So a normalisation written by hand, x * rsqrt(mean(x^2)), is treated as the built-in ones.
    """
    result = pass_through(call, mode)
    exponent = call.argument(1, "exponent") if call.name == "pow" else -1
    if isinstance(exponent, (int, float)) and exponent < 0:
        mode.mark_gate(result, NORMALIZER_RANK)
    return result


def softmax_gradient(call: Call, mode: BackwardRules) -> Tensor:
    """Softmax of AttnLRP: its gradient, R_i = x_i (R_i - s_i sum_j R_j) (Achtibat 2024, eq. 13)."""
    result: Tensor = call.run()
    mode.mark_logits(result, call.first)
    return result


def log_softmax(call: Call, mode: BackwardRules) -> Tensor:
    """Log-softmax: passed by at the end of a network; elsewhere relevance passes unchanged."""
    inputs = call.first
    result = pass_through(call, mode)
    mode.mark_logits(result, inputs)
    return result


def normalization(epsilon: float = 0.0) -> Rule:
    """Layer, group, instance and RMS normalisation with the variance as a constant.

    What is left, centring and scaling, is linear, and gets LRP-epsilon (Ali et al. 2022):
    z_j = w_j (a_j - mean(a)) / std + b_j.
    """

    def rule(call: Call, mode: BackwardRules) -> Tensor:
        named = normalization_arguments(call)
        grouped = _grouped(call.name, named)
        # Running statistics of an instance normalisation in eval mode are constants.
        by_running = call.name == "instance_norm" and named.get("use_input_stats") is False
        centred = call.name != "rms_norm" and not by_running
        output, factor = _normalized(call, named, grouped, by_running=by_running)
        weight, constant = (
            None if vector is None else grouped.per_feature(vector.detach())
            for vector in (named.get("weight"), named.get("bias"))
        )
        kept = mode.keeper.keep(output)
        if by_running:  # the mean is one as well
            constant = output - call.first.detach() * factor * (1 if weight is None else weight)

        def backward(signal: Tensor) -> Tensor:
            damped = damp(signal, kept.value, epsilon) if epsilon else signal
            if mode.audit is not None:
                mode.audit.keep(signal * kept.value, damped * kept.value)
                if constant is not None:
                    mode.note_absorbed(damped * constant)
            weighted = damped if weight is None else damped * weight
            return grouped.centred(weighted).mul_(factor) if centred else weighted * factor

        return substitute(call.first, output, backward, copy=False)

    rule.label = f"variance held constant (epsilon={epsilon})"  # type: ignore[attr-defined]
    return rule


def _normalized(
    call: Call, named: dict[str, Any], grouped: _Groups, *, by_running: bool
) -> tuple[Tensor, Tensor]:
    """What the call returns, and what the centred elements are multiplied by, weights apart."""
    if call.name != "layer_norm":
        variance = _variance(call, named, grouped, by_running=by_running)
        return call.run().detach(), torch.rsqrt(variance)
    output, _, factor = torch.native_layer_norm(
        named["input"].detach(),
        named["normalized_shape"],
        named.get("weight"),
        named.get("bias"),
        named.get("eps", 1e-5),
    )
    return output, factor


def _variance(call: Call, named: dict[str, Any], grouped: _Groups, *, by_running: bool) -> Tensor:
    """What the elements are divided by the root of, with the normalisation's own eps."""
    values = call.first.detach()
    is_rms = call.name == "rms_norm"
    given = named.get("eps")
    eps = given if given is not None else torch.finfo(values.dtype).eps if is_rms else 1e-5
    if by_running:
        variance: Tensor = grouped.per_feature(named["running_var"] + eps)
        return variance
    spread = values if is_rms else grouped.centred(values)
    return grouped.mean(spread.square()) + eps


class _Groups:
    """The groups of elements that are normalised together."""

    def __init__(self, split: Callable[[Tensor], Tensor], dims: tuple[int, ...], features: Any):
        self.split = split
        self.dims = dims
        self.per_feature = features

    def mean(self, values: Tensor) -> Tensor:
        """Mean of each group, to go with each of its elements."""
        parts = self.split(values)
        means = parts.mean(dim=self.dims, keepdim=True)
        return means if parts is values else means.expand_as(parts).reshape(values.shape)

    def centred(self, values: Tensor) -> Tensor:
        """Values without the mean of their group."""
        return values - self.mean(values)


def _grouped(name: str, named: dict[str, Any]) -> _Groups:
    shape = named["input"].shape
    if name in ("layer_norm", "rms_norm"):
        dims = tuple(range(-len(named["normalized_shape"]), 0))
        return _Groups(lambda x: x, dims, lambda vector: vector)

    def of_channels(vector: Tensor) -> Tensor:
        return vector.view(1, -1, *[1] * (len(shape) - 2))

    if name == "group_norm":
        groups = named["num_groups"]
        return _Groups(lambda x: x.reshape(shape[0], groups, -1), (2,), of_channels)
    over_batch = (0,) if name == "batch_norm" else ()
    return _Groups(lambda x: x, (*over_batch, *range(2, len(shape))), of_channels)


def local_response_norm(epsilon: float = 0.0) -> Rule:
    """Local response normalisation by its first-order expansion (Binder et al. 2016).

    y_k = x_k / D_k^c with D_k = t + b sum_i x_i^2 over a window of channels is expanded around the
    point where only x_k is not zero. The contributions are z_kk = x_k / (t + b x_k^2)^c and, of the
    neighbours, z_ik = -2 b c x_k x_i^2 / D_k^(c+1); they get LRP-epsilon.
    """

    def rule(call: Call, mode: BackwardRules) -> Tensor:
        values, output = call.first.detach().clone(), call.run().detach()
        size, alpha, power, offset = (
            call.argument(position, name, default)
            for position, (name, default) in enumerate(
                (("size", None), ("alpha", 1e-4), ("beta", 0.75), ("k", 1.0)), start=1
            )
        )
        squares, factor = values.square(), alpha / size
        denominators = offset + factor * _window_sum(squares, size)
        own = (offset + factor * squares).pow(-power)
        others = -2 * factor * power * values * denominators.pow(-power - 1)
        total = values * own + others * (_window_sum(squares, size) - squares)
        after = output.clone()

        def backward(signal: Tensor) -> Tensor:
            # R_k / z_k, which is 0 where the neuron itself is.
            share = torch.where(total == 0, 0.0, after * signal / total) * damping(total, epsilon)
            if mode.audit is not None:
                mode.audit.keep(after * signal, share * total)
            neighbours = _window_sum(share * others, size, transposed=True) - share * others
            return share * own + values * neighbours

        return substitute(call.first, output, backward)

    rule.label = f"first-order expansion (epsilon={epsilon})"  # type: ignore[attr-defined]
    return rule


def _window_sum(values: Tensor, size: int, *, transposed: bool = False) -> Tensor:
    """Sum over neighbouring channels, from size // 2 below to (size - 1) // 2 above."""
    below, above = size // 2, (size - 1) // 2
    if transposed:
        below, above = above, below
    flat = values.flatten(2) if values.ndim > 2 else values[..., None]
    padded = F.pad(flat, (0, 0, below, above))
    return padded.unfold(1, size, 1).sum(dim=-1).reshape(values.shape)
