"""Gives a rule to linear operations, whichever call makes them, and to what is fused with them."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules
from aopc_monitor.heatmaps.engine.calls import Call, normalization_arguments
from aopc_monitor.heatmaps.engine.carried_relevance import Carrier
from aopc_monitor.heatmaps.engine.marks import Stabilized
from aopc_monitor.heatmaps.engine.substitution import scaled, substitute
from aopc_monitor.heatmaps.rules.linear_formulas import epsilon_rule, label_of
from aopc_monitor.heatmaps.rules.linear_layer import (
    LinearLayer,
    LinearMap,
    LinearRule,
    LinearRun,
    of_outputs,
)
from aopc_monitor.heatmaps.rules.linear_readers import (
    batch_norm,
    convolution,
    deformable_convolution,
    fully_connected,
    matrix_product_plus,
    transposed_convolution,
)
from aopc_monitor.heatmaps.rules.nonlinear import normalization
from aopc_monitor.heatmaps.rules.positions import without_rule
from aopc_monitor.heatmaps.rules.products import factors_of, gated_product
from aopc_monitor.heatmaps.rules.stabilizer import damp, damp_rectified, relative_to_scale

CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
TRANSPOSED_CONVOLUTIONS = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
MATRIX_PRODUCTS = ("matmul", "mm", "bmm", "mv", "einsum")
CONVOLUTIONAL = (*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS, "deform_conv2d")
DENSE = ("linear", "addmm", *MATRIX_PRODUCTS)
LINEAR = (*CONVOLUTIONAL, *DENSE, "batch_norm")


def linear(rule: LinearRule, **settings: Any) -> LinearOperation:
    """An entry of a table of rules: linear operations that follow an LRP rule.

    Args:
        rule: `(layer, relevance, **settings)`, from relevance at the outputs to relevance at the
            inputs; one of those in `heatmaps.rules.linear_formulas`, or your own.
        **settings: given to the rule.

    Example:
        >>> from aopc_monitor.heatmaps import gamma_rule
        >>> linear(gamma_rule, gamma=0.5).label
        'gamma rule (gamma=0.5)'
    """
    if not callable(rule):
        raise TypeError(f"rule={rule!r} is no function (layer, relevance, **settings)")
    try:
        inspect.signature(rule).bind(None, None, **settings)
    except TypeError as error:
        raise TypeError(f"{label_of(rule, settings)}: {error}") from error
    return LinearOperation(rule, settings)


class LinearOperation:
    """See `linear`."""

    def __init__(self, rule: LinearRule, settings: dict[str, Any]) -> None:
        self.rule = rule
        self.settings = settings
        self.label = label_of(rule, settings)

    def __call__(self, call: Call, mode: BackwardRules) -> Any:
        """Run the operation; its backward pass is the rule's."""
        reader = _READERS.get(call.name)
        if reader is None:
            return self._of_another_kind(call, mode)
        signals = mode.signals_among(call.tensors)
        # The first argument of addmm is its bias.
        if len(signals) == 1 and signals[0] is call.first and call.name != "addmm":
            output = call.operation(*call.args, **call.kwargs)
            can_be_scaled = call.name != "linear" or output.ndim == 2
            read = partial(reader, call, output)
            run = LinearRun(signals[0], output, output, read, can_be_scaled)
            return self.redistribute(run, mode)
        return self._with_other_signals(call, mode)

    def _of_another_kind(self, call: Call, mode: BackwardRules) -> Any:
        """An operation that is linear in one of its arguments, or by running statistics."""
        if call.name == "batch_norm":
            return _batch_norm(call, mode, self)
        if call.name in MATRIX_PRODUCTS:
            return _product(call, mode, self)
        raise ValueError(
            f"rules[{call.name!r}] is linear(...), but {call.name} is no linear operation: "
            f"these are {', '.join(LINEAR)}"
        )

    def _with_other_signals(self, call: Call, mode: BackwardRules) -> Tensor:
        """An operation whose weights, bias or places may be made of the images."""
        if call.name == "deform_conv2d" and not mode.is_signal(call.first):
            return without_rule(
                "deform_conv2d of constants, at places made of the images", call, mode
            )
        linear_map = _READERS[call.name](call)
        if mode.is_signal(linear_map.weight):
            return _dynamic(linear_map, mode)
        if mode.is_signal(linear_map.bias):
            return self._with_signal_as_bias(linear_map, mode)
        return self.redistribute(LinearRun.of(linear_map), mode)

    def _with_signal_as_bias(self, linear_map: LinearMap, mode: BackwardRules) -> Tensor:
        """A bias made of the images is a summand like any other."""
        assert linear_map.bias is not None
        if not mode.is_signal(linear_map.input):
            return linear_map.output
        alone = linear_map.apply(linear_map.input, linear_map.weight, None)
        unbiased = replace(linear_map, parameters=lambda: (linear_map.weight, None), output=alone)
        product = self.redistribute(LinearRun.of(unbiased), mode)
        return product + of_outputs(linear_map, linear_map.bias)

    def redistribute(self, run: LinearRun, mode: BackwardRules) -> Tensor:
        """The outputs of an operation that ran, whose relevance goes to its inputs by the rule."""
        entry, first = self, mode.first_layer
        if isinstance(first, LinearOperation) and mode.carriers.has(run.input):
            mode.note_first_layer(first.label)
            entry = first
        if entry.rule is epsilon_rule:
            return _damped(run, mode, self, **entry.settings)
        result = _redistribute(run.read(), mode, entry)
        mode.remember_layer(result, run, self)
        return result


_READERS = {
    **dict.fromkeys(CONVOLUTIONS, convolution),
    **dict.fromkeys(TRANSPOSED_CONVOLUTIONS, transposed_convolution),
    "deform_conv2d": deformable_convolution,
    "linear": fully_connected,
    "addmm": matrix_product_plus,
}


def _redistribute(linear_map: LinearMap, mode: BackwardRules, entry: LinearOperation) -> Tensor:
    outputs, inputs = mode.keeper.keep(linear_map.output), mode.keeper.keep(linear_map.input)
    known = LinearLayer(linear_map, inputs, outputs, mode.audit)
    carrier, settings = mode.carriers.of(linear_map.input), entry.settings
    if carrier is not None and carrier.low is not None and "low" in settings:
        # The data range is that of the images; this is what became of it on the way here.
        settings = {**settings, "low": carrier.low, "high": carrier.high}

    def backward(signal: Tensor) -> Tensor:
        given = outputs.value * signal
        absorbed = 0.0 if mode.audit is None else mode.audit.absorbed
        relevance = entry.rule(known, given, **settings)
        if mode.audit is not None:  # biases got their share within the rule
            mode.audit.keep(given, relevance.sum() + (mode.audit.absorbed - absorbed))
        # The signal is g_i = R_i / a_i, unless R_i itself is carried on.
        if carrier is not None:
            return relevance
        is_zero = inputs.value == 0
        mode.note_lost(relevance, is_zero)
        return torch.where(is_zero, 0.0, relevance / inputs.value)

    way = None if carrier is None else carrier.relevance
    return substitute(linear_map.input, linear_map.output, backward, way, copy=False)


def _damped(
    run: LinearRun,
    mode: BackwardRules,
    entry: LinearOperation,
    epsilon: float = 0.01,
    relative: bool = False,
) -> Tensor:
    """LRP-epsilon without a second forward pass.

    R_i / a_i = sum_j w_ij (g_j z_j / (z_j + epsilon sign(z_j))): the operation's own gradient of a
    signal that is damped once.
    """
    audit, output = mode.audit, run.output
    layer = Stabilized(run.source, mode.keeper.keep(output), float(epsilon), run.factors)

    def backward(signal: Tensor) -> Tensor:
        z = layer.kept.value
        if layer.is_rectified:
            return layer.handed_on(damp_rectified(signal, z, layer.epsilon))
        damped = damp(signal, z, relative_to_scale(epsilon, z) if relative else float(epsilon))
        if audit is not None:
            audit.keep(signal.conj() * z, damped.conj() * z)
            linear_map = run.read()
            if linear_map.bias is not None:
                audit.absorb((damped * of_outputs(linear_map, linear_map.bias.detach())).sum())
        return layer.handed_on(damped)

    result = substitute(run.source, output, backward, copy=False)
    mode.remember_layer(result, run, entry, None if relative else layer)
    return result


def _dynamic(linear_map: LinearMap, mode: BackwardRules) -> Tensor:
    """Weights made of the images (dynamic convolution) and activations share equally."""
    activations, share = linear_map.input, 1.0
    if mode.is_signal(activations):
        activations, share = scaled(activations, 0.5), 0.5
    return linear_map.apply(activations, scaled(linear_map.weight, share), linear_map.bias)


def _batch_norm(call: Call, mode: BackwardRules, entry: LinearOperation) -> Any:
    """Batch normalisation by running statistics, fused with the layer before it if there is one."""
    named = normalization_arguments(call)
    if named.get("training") or named.get("running_mean") is None:
        return normalization(entry.settings.get("epsilon", 0.0))(call, mode)
    if not mode.first_layer_was_met:
        carrier = mode.carriers.of(call.first)
        if carrier is not None:
            return _normalized_images(call, carrier, mode)
    mark = mode.layer_of(call.first)
    if mark is None or not mark.run.can_be_scaled:
        return entry.redistribute(batch_norm(call, None), mode)
    return mark.entry.redistribute(batch_norm(call, mark.run), mode)


def _normalized_images(call: Call, carrier: Carrier, mode: BackwardRules) -> Tensor:
    """Batch normalisation of the images themselves: the first layer is what comes after it."""
    result: Tensor = call.run()
    mode.carriers.put(result, carrier.scaled_and_shifted(call, call.first, result))
    return result


def _product(call: Call, mode: BackwardRules, entry: LinearOperation) -> Any:
    """Product of a signal and constant weights is a layer; of two signals, see `products`."""
    factors = factors_of(call)
    positions = [i for i, value in enumerate(factors.values) if mode.is_signal(value)]
    if len(positions) > 1 or len(factors.values) != 2:
        return gated_product(call, mode)
    place = positions[0]

    def apply(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        result: Tensor = factors.rebuild([a, w] if place == 0 else [w, a]).run()
        return result

    signal, weight = factors.values[place], factors.values[1 - place]
    product = LinearMap(signal, lambda: (weight, None), call.run(), apply)
    return entry.redistribute(LinearRun.of(product), mode)
