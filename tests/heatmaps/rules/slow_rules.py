"""Slow references of the LRP rules: explicit sums over inputs i and outputs j, one layer at a time.

A layer is a dense matrix here, as the published equations have it; `dense` makes it from any linear
operation by applying that to unit vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from aopc_monitor.heatmaps.rules.linear_layer import Apply


@dataclass(frozen=True)
class Dense:
    """z_j = sum_i a_i w_ij + b_j for a single sample.

    Attributes:
        inputs: a_i.
        weight: w_ij, weight[j][i].
        bias: b_j.
        connected: whether output j has input i at all, connected[j][i]: padding is no input.
    """

    inputs: list[float]
    weight: list[list[float]]
    bias: list[float]
    connected: list[list[bool]]

    @property
    def outputs(self) -> list[float]:
        """z_j."""
        return [sum(self.parts(j)) + self.bias[j] for j in range(len(self.bias))]

    def parts(self, j: int) -> list[float]:
        """a_i w_ij of one output."""
        return [a * w for a, w in zip(self.inputs, self.weight[j], strict=True)]


def dense(apply: Apply, a: Tensor, w: Tensor, b: Tensor | None) -> Dense:
    """The matrix of a linear operation on a single sample a (1, ...)."""
    units = torch.eye(a.numel(), dtype=a.dtype).view(-1, *a.shape[1:])
    columns, structure = apply(units, w, None), apply(units, torch.ones_like(w), None)
    shift = torch.zeros_like(columns[:1]) if b is None else apply(torch.zeros_like(a), w, b)
    return Dense(
        a.flatten().tolist(),
        columns.flatten(1).T.tolist(),
        shift.flatten().tolist(),
        (structure.flatten(1).T != 0).tolist(),
    )


SlowRule = Callable[[Dense, list[float]], list[float]]


def shared(
    layer: Dense, relevance: list[float], part: Callable[[int, int], float], rest: list[float]
) -> list[float]:
    """R_i = sum_j z_ij / (sum_i z_ij + rest_j) R_j, where part(i, j) is z_ij."""
    result = [0.0] * len(layer.inputs)
    for j, relevance_of_j in enumerate(relevance):
        total = sum(part(i, j) for i in range(len(layer.inputs))) + rest[j]
        for i in range(len(layer.inputs)):
            if total != 0:
                result[i] += part(i, j) / total * relevance_of_j
    return result


def slow_epsilon(epsilon: float, *, relative: bool = False) -> SlowRule:
    """Bach et al. 2015; Samek et al. 2017, eq. 7: the stabiliser has the sign of z_j."""

    def rule(layer: Dense, relevance: list[float]) -> list[float]:
        z = layer.outputs
        size = math.sqrt(sum(value**2 for value in z) / len(z)) if relative else 1.0
        rest = [b + math.copysign(epsilon * size, v) for b, v in zip(layer.bias, z, strict=True)]
        return shared(layer, relevance, lambda i, j: layer.inputs[i] * layer.weight[j][i], rest)

    return rule


def slow_alpha_beta(alpha: float, beta: float) -> SlowRule:
    """Samek et al. 2017, eq. 8: no bias."""

    def rule(layer: Dense, relevance: list[float]) -> list[float]:
        result = [0.0] * len(layer.inputs)
        for j, relevance_of_j in enumerate(relevance):
            parts = layer.parts(j)
            up, down = sum(z for z in parts if z > 0), sum(z for z in parts if z < 0)
            for i, z in enumerate(parts):
                if z > 0:
                    result[i] += alpha * z / up * relevance_of_j
                elif z < 0:
                    result[i] += beta * z / down * relevance_of_j
        return result

    return rule


def slow_gamma(gamma: float) -> SlowRule:
    """Montavon et al. 2019, section 10.2, for outputs and inputs of any sign (Andéol et al. 2021).

    Contributions of the sign of z_j, the bias among them, weigh 1 + gamma.
    """

    def rule(layer: Dense, relevance: list[float]) -> list[float]:
        signs = [math.copysign(1, z) for z in layer.outputs]

        def favoured(value: float, j: int) -> float:
            return value * (1 + gamma) if value * signs[j] > 0 else value

        return shared(
            layer,
            relevance,
            lambda i, j: favoured(layer.inputs[i] * layer.weight[j][i], j),
            [favoured(b, j) for j, b in enumerate(layer.bias)],
        )

    return rule


def slow_flat(layer: Dense, relevance: list[float]) -> list[float]:
    """Lapuschkin et al. 2019: equal shares among the inputs that an output has."""
    nothing = [0.0] * len(relevance)
    return shared(layer, relevance, lambda i, j: float(layer.connected[j][i]), nothing)


def slow_w_square(layer: Dense, relevance: list[float]) -> list[float]:
    """Montavon et al. 2017, section 4.1."""
    nothing = [0.0] * len(relevance)
    return shared(layer, relevance, lambda i, j: layer.weight[j][i] ** 2, nothing)


def slow_z_box(low: list[float], high: list[float]) -> SlowRule:
    """Montavon et al. 2017, section 4.3: one bound per input."""

    def rule(layer: Dense, relevance: list[float]) -> list[float]:
        def part(i: int, j: int) -> float:
            w = layer.weight[j][i]
            return layer.inputs[i] * w - low[i] * max(w, 0.0) - high[i] * min(w, 0.0)

        return shared(layer, relevance, part, [0.0] * len(relevance))

    return rule
