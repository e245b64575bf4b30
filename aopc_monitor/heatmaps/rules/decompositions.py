"""Operations that are short for others, which have rules: they are run as these."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules, Rule
from aopc_monitor.heatmaps.engine.calls import Call
from aopc_monitor.heatmaps.engine.marks import NORMALIZER_RANK
from aopc_monitor.heatmaps.engine.substitution import scaled


def cosine_similarity(call: Call, mode: BackwardRules) -> Tensor:
    """Cosine x y / (|x| |y|): norms are constants, as in normalisations; x and y share equally."""
    first, second = call.argument(0, "x1"), call.argument(1, "x2")
    dim, eps = call.argument(2, "dim", 1), call.argument(3, "eps", 1e-8)
    with mode, torch.no_grad():
        norms = [value.norm(dim=dim).clamp_min(eps) for value in (first, second)]
    with mode:
        result: Tensor = (first * second).sum(dim=dim) / (norms[0] * norms[1])
    return result


def interpolation(call: Call, mode: BackwardRules) -> Any:
    """lerp(x, y, w) = (1 - w) x + w y: a sum of two products, in which w may be a gate."""
    weight = call.argument(2, "weight")
    if not mode.is_signal(weight):
        return call.run()
    first, second = call.first, call.argument(1, "end")
    with mode:
        return (1 - weight) * first + weight * second


def inverse(call: Call, mode: BackwardRules) -> Tensor:
    """The inverse of a matrix: like 1 / x, relevance passes unchanged, and it weighs signals.

    The sum of A dB/dA is -B for B = A^-1: the plain gradient with the sign turned.
    """
    result: Tensor = call.with_first(scaled(call.first, -1)).run()
    mode.mark_gate(result, NORMALIZER_RANK)
    return result


def solution(call: Call, mode: BackwardRules) -> Any:
    """solve(A, B) = A^-1 B: the inverse of A weighs B."""
    matrix, values = call.argument(0, "A"), call.argument(1, "B")
    if not mode.is_signal(matrix):
        return call.run()
    held = matrix.detach() if mode.is_signal(values) else scaled(matrix, -1)
    return call.with_tensors(lambda value: held if value is matrix else value).run()


DECOMPOSITIONS: dict[str, Rule] = {
    "cosine_similarity": cosine_similarity,
    "lerp": interpolation,
    "inverse": inverse,
    "linalg_inv": inverse,
    "linalg_pinv": inverse,
    "pinverse": inverse,
    "linalg_solve": solution,
}
