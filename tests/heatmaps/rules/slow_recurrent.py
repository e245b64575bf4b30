"""Slow references of recurrent layers: one sequence, one step and one number after the other.

The rules of Arras et al. 2017: gates get no relevance, sums share by their summands, and a linear
operation over the input and the hidden state follows LRP-epsilon.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

from torch import nn

Vector = list[float]
Matrix = list[list[float]]


def linear(weight: Matrix, a: Vector, bias: Vector) -> Vector:
    """z_j = sum_i w_ji a_i + b_j."""
    return [
        sum(w * v for w, v in zip(row, a, strict=True)) + b
        for row, b in zip(weight, bias, strict=True)
    ]


def shared(weight: Matrix, a: Vector, bias: Vector, relevance: Vector, epsilon: float) -> Vector:
    """R_i = sum_j a_i w_ji / (z_j + epsilon sign(z_j)) R_j."""
    result = [0.0] * len(a)
    for row, z, r in zip(weight, linear(weight, a, bias), relevance, strict=True):
        for i, value in enumerate(a):
            result[i] += value * row[i] / (z + math.copysign(epsilon, z)) * r
    return result


def sigmoid(z: Vector) -> Vector:
    return [1 / (1 + math.exp(-value)) for value in z]


def tanh(z: Vector) -> Vector:
    return [math.tanh(value) for value in z]


class SlowLSTM:
    """One direction of one layer, from a start of zeros."""

    def __init__(self, layer: nn.Module, suffix: str, epsilon: float) -> None:
        def of(name: str) -> Any:
            return getattr(layer, f"{name}_{suffix}").tolist()

        self.w, self.u = of("weight_ih"), of("weight_hh")
        self.b, self.c = of("bias_ih"), of("bias_hh")
        self.size, self.epsilon = len(self.u[0]), epsilon
        self.joint = [w + u for w, u in zip(self.w, self.u, strict=True)]
        self.bias = [b + c for b, c in zip(self.b, self.c, strict=True)]
        self.steps: list[Any] = []

    def rows(self, number: int) -> slice:
        return slice(number * self.size, (number + 1) * self.size)

    def forward(self, sequence: Matrix) -> Matrix:
        """h_t of all steps."""
        h, c, outputs = [0.0] * self.size, [0.0] * self.size, []
        for x in sequence:
            z = linear(self.joint, x + h, self.bias)
            write, keep, new, show = (z[self.rows(k)] for k in range(4))
            kept = [f * v for f, v in zip(sigmoid(keep), c, strict=True)]
            added = [i * g for i, g in zip(sigmoid(write), tanh(new), strict=True)]
            self.steps.append((x + h, kept, added))
            c = [k + a for k, a in zip(kept, added, strict=True)]
            h = [o * v for o, v in zip(sigmoid(show), tanh(c), strict=True)]
            outputs.append(h)
        return outputs

    def backward(self, relevance: Matrix) -> Matrix:
        """From relevance of all h_t to that of all x_t."""
        of_h, of_c, found = [0.0] * self.size, [0.0] * self.size, []
        for (inputs, kept, added), arriving in zip(self.steps[::-1], relevance[::-1], strict=True):
            whole = [a + h + c for a, h, c in zip(arriving, of_h, of_c, strict=True)]
            of_c = [k / (k + a) * r for k, a, r in zip(kept, added, whole, strict=True)]
            of_new = [a / (k + a) * r for k, a, r in zip(kept, added, whole, strict=True)]
            rows = self.rows(2)
            below = shared(self.joint[rows], inputs, self.bias[rows], of_new, self.epsilon)
            features = len(inputs) - self.size
            found.append(below[:features])
            of_h = below[features:]
        return found[::-1]


class SlowGRU(SlowLSTM):
    def forward(self, sequence: Matrix) -> Matrix:
        h, outputs, rows = [0.0] * self.size, [], self.rows(2)
        for x in sequence:
            z = linear(self.joint, x + h, self.bias)
            reset, keep = sigmoid(z[self.rows(0)]), sigmoid(z[self.rows(1)])
            from_x = linear(self.w[rows], x, self.b[rows])
            from_h = linear(self.u[rows], h, self.c[rows])
            weighted = [r * v for r, v in zip(reset, from_h, strict=True)]
            new = tanh([a + b for a, b in zip(from_x, weighted, strict=True)])
            added = [(1 - k) * n for k, n in zip(keep, new, strict=True)]
            kept = [k * v for k, v in zip(keep, h, strict=True)]
            self.steps.append((x, h, from_x, weighted, kept, added))
            h = [k + a for k, a in zip(kept, added, strict=True)]
            outputs.append(h)
        return outputs

    def backward(self, relevance: Matrix) -> Matrix:
        of_h, found, rows = [0.0] * self.size, [], self.rows(2)
        for step, arriving in zip(self.steps[::-1], relevance[::-1], strict=True):
            x, h, from_x, weighted, kept, added = step
            whole = [a + r for a, r in zip(arriving, of_h, strict=True)]
            of_kept = [k / (k + a) * r for k, a, r in zip(kept, added, whole, strict=True)]
            of_new = [a / (k + a) * r for k, a, r in zip(kept, added, whole, strict=True)]
            parts = list(zip(from_x, weighted, of_new, strict=True))
            of_x, of_weighted = ([s[i] / (s[0] + s[1]) * s[2] for s in parts] for i in range(2))
            found.append(shared(self.w[rows], x, self.b[rows], of_x, self.epsilon))
            through = shared(self.u[rows], h, self.c[rows], of_weighted, self.epsilon)
            of_h = [a + b for a, b in zip(of_kept, through, strict=True)]
        return found[::-1]


def slow_relevance(
    layer: nn.Module, head: Matrix, sequence: Matrix, target: int, epsilon: float
) -> Matrix:
    """Relevance of each x_t for a class whose score is a weighted sum of all outputs."""
    kind = SlowLSTM if isinstance(layer, nn.LSTM) else SlowGRU
    suffixes = ["", "_reverse"][: 2 if layer.bidirectional else 1]
    done: list[list[SlowLSTM]] = []
    values = sequence
    for number in range(int(layer.num_layers)):
        done.append([kind(layer, f"l{number}{suffix}", epsilon) for suffix in suffixes])
        outputs = [d.forward(values if k == 0 else values[::-1]) for k, d in enumerate(done[-1])]
        outputs = [output if k == 0 else output[::-1] for k, output in enumerate(outputs)]
        values = [list(chain(*step)) for step in zip(*outputs, strict=True)]
    flat = list(chain(*values))
    score = linear(head, flat, [0.0] * len(head))[target]
    of_flat = shared([head[target]], flat, [0.0], [score], epsilon)
    width = len(values[0])
    relevance = [of_flat[t * width : (t + 1) * width] for t in range(len(values))]
    for directions in done[::-1]:
        size = directions[0].size
        parts = [
            [row[k * size : (k + 1) * size] for row in relevance] for k in range(len(directions))
        ]
        ways = [
            d.backward(p) if k == 0 else d.backward(p[::-1])[::-1]
            for k, (d, p) in enumerate(zip(directions, parts, strict=True))
        ]
        relevance = [[sum(v) for v in zip(*rows, strict=True)] for rows in zip(*ways, strict=True)]
    return relevance
