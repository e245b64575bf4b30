"""LRP rules of linear operations: pure functions from relevance at the outputs to the inputs'.

Each rule says how the relevance R_j of an output z_j = sum_i a_i w_ij + b_j is shared among the
inputs. All of them share it in proportion to some contributions z_ij, which is what `share` does;
they differ in the contributions. Written out with explicit sums, they are in the tests.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aopc_monitor.heatmaps.rules.linear_layer import LinearLayer
from aopc_monitor.heatmaps.rules.stabilizer import relative_to_scale


def epsilon_rule(
    layer: LinearLayer, relevance: Tensor, *, epsilon: float = 0.01, relative: bool = False
) -> Tensor:
    """LRP-epsilon (eq. 7): R_i = sum_j z_ij / (z_j + epsilon sign(z_j)) R_j, z_ij = a_i w_ij.

    z_j includes the bias, which keeps its share of the relevance. With `relative`, epsilon is
    multiplied by the root mean square of the layer's outputs for the sample.
    """
    stabilizer = relative_to_scale(epsilon, layer.outputs) if relative else epsilon
    return layer.share(relevance, [(layer.inputs, layer.weight)], layer.bias, stabilizer)


def alpha_beta_rule(
    layer: LinearLayer, relevance: Tensor, *, alpha: float = 2.0, beta: float = -1.0
) -> Tensor:
    """LRP-alpha-beta (eq. 8): R_i = sum_j (alpha z_ij+ / z_j+ + beta z_ij- / z_j-) R_j.

    z_j+ and z_j- are the sums of the positive and of the negative z_ij. As in eq. 8 the bias takes
    no part, so that relevance is conserved where an output has contributions of both signs. Where
    each output has a single input, as in batch normalisation by itself, it gets all relevance.
    """
    if layer.map.one_to_one:
        return relevance
    result = layer.share(alpha * relevance, _signed(layer, positive=True))
    if beta:
        result = result + layer.share(beta * relevance, _signed(layer, positive=False))
    return result


def z_plus_rule(layer: LinearLayer, relevance: Tensor) -> Tensor:
    """The z+ rule: R_i = sum_j z_ij+ / z_j+ R_j (Montavon et al. 2017); alpha 1, beta 0."""
    return alpha_beta_rule(layer, relevance, alpha=1.0, beta=0.0)


def gamma_rule(layer: LinearLayer, relevance: Tensor, *, gamma: float = 0.25) -> Tensor:
    """LRP-gamma: R_i = sum_j a_i (w_ij + gamma w_ij+) / sum_i a_i (w_ij + gamma w_ij+) R_j.

    The bias is treated as a weight of a constant input (Montavon et al. 2019, section 10.2). For
    z_j below zero and for inputs of both signs, gamma favours the contributions that have the sign
    of z_j (Andéol et al. 2021).
    """
    if layer.map.one_to_one:
        return relevance
    inputs, weight, bias = layer.inputs, layer.weight, layer.bias
    up, down = weight + gamma * weight.clamp(min=0), weight + gamma * weight.clamp(max=0)
    if not bool((inputs < 0).any()):
        favoured, opposed = [(inputs, up)], [(inputs, down)]
    else:
        positive, negative = inputs.clamp(min=0), inputs.clamp(max=0)
        favoured, opposed = [(positive, up), (negative, down)], [(positive, down), (negative, up)]
    above = layer.outputs > 0
    bias_up = None if bias is None else bias + gamma * bias.clamp(min=0)
    result = layer.share(torch.where(above, relevance, 0.0), favoured, bias_up)
    if bool((layer.outputs < 0).any()):
        bias_down = None if bias is None else bias + gamma * bias.clamp(max=0)
        below = torch.where(above, 0.0, relevance)
        result = result + layer.share(below, opposed, bias_down)
    return result


def flat_rule(layer: LinearLayer, relevance: Tensor) -> Tensor:
    """The flat rule: every input of an output gets the same share (Lapuschkin et al. 2019).

    Made for the first layer: behind a ReLU, what it gives to activations of zero is lost.
    """
    if layer.map.one_to_one:
        return relevance
    ones = torch.ones_like(layer.inputs)
    return layer.share(relevance, [(ones, torch.ones_like(layer.weight))])


def w_square_rule(layer: LinearLayer, relevance: Tensor) -> Tensor:
    """The w^2 rule: R_i = sum_j w_ij^2 / sum_i w_ij^2 R_j (Montavon et al. 2017, section 4).

    Made for the first layer: behind a ReLU, what it gives to activations of zero is lost.
    """
    if layer.map.one_to_one:
        return relevance
    return layer.share(relevance, [(torch.ones_like(layer.inputs), layer.weight.square())])


def z_box_rule(layer: LinearLayer, relevance: Tensor, *, low: Tensor, high: Tensor) -> Tensor:
    """The z-box rule, for inputs between low and high (Montavon et al. 2017, section 4).

    z_ij = x_i w_ij - l_i w_ij+ - h_i w_ij-, and R_i = sum_j z_ij / sum_i z_ij R_j.

    Args:
        layer: a layer whose inputs are pixels.
        relevance: R_j.
        low: (C, 1, 1), `(C, *1)` of another kind, or as the inputs; lower end of the data range.
        high: the same of the upper end.
    """
    if layer.map.one_to_one:
        return relevance
    inputs, weight = layer.inputs, layer.weight
    lows, highs = (bound.to(inputs).expand_as(inputs) for bound in (low, high))
    return layer.share(
        relevance,
        [(inputs, weight), (-lows, weight.clamp(min=0)), (-highs, weight.clamp(max=0))],
    )


def _signed(layer: LinearLayer, *, positive: bool) -> list[tuple[Tensor, Tensor]]:
    """Contributions of one sign: positive where input and weight have the same."""
    inputs, up, down = layer.inputs, layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    if not positive:
        up, down = down, up
    # After a ReLU no input is negative, and half of the work falls away.
    if not bool((inputs < 0).any()):
        return [(inputs, up)]
    return [(inputs.clamp(min=0), up), (inputs.clamp(max=0), down)]


def label_of(rule: Any, settings: dict[str, Any]) -> str:
    """What reports call a rule.

    Example:
        >>> label_of(gamma_rule, {"gamma": 0.25})
        'gamma rule (gamma=0.25)'
    """
    name = getattr(rule, "__name__", repr(rule)).replace("_", " ")
    shown = {k: v for k, v in settings.items() if not isinstance(v, Tensor)}
    listed = ", ".join(f"{key}={value}" for key, value in shown.items())
    return f"{name} ({listed})" if listed else name
