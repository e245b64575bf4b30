"""Products of values that depend on the images: gates, attention, and everything else.

By default a gate (a sigmoid, a softmax) gives all relevance to what it weighs (Arras et al. 2017),
and attention weights, which are gates, give it to the values (Ali et al. 2022). Two signals, none
of which is a gate, share equally (Achtibat et al. 2024, eq. 7).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules
from aopc_monitor.heatmaps.engine.calls import Call, tensors_in
from aopc_monitor.heatmaps.engine.marks import NORMALIZER_RANK
from aopc_monitor.heatmaps.engine.substitution import scaled, substitute

TWO_FACTORS = (
    "mul", "matmul", "mm", "bmm", "mv", "dot", "inner", "outer", "ger", "tensordot", "vdot", "kron",
    "bilinear", "cross", "linalg_cross", "linalg_matmul", "linalg_vecdot", "sparse_mm",
)  # fmt: skip
SEVERAL_FACTORS = ("chain_matmul", "linalg_multi_dot")
PRODUCTS_PLUS = ("addmm", "baddbmm", "addbmm", "addcmul")


@dataclass(frozen=True)
class Factors:
    """What a call multiplies.

    Attributes:
        values: the factors.
        rebuild: makes the same call with other factors.
    """

    values: list[Any]
    rebuild: Callable[[list[Any]], Call]


def factors_of(call: Call) -> Factors:
    """The factors of a product.

    Example:
        >>> import torch
        >>> call = Call(torch.einsum, ("ij,jk->ik", torch.ones(2, 3), torch.ones(3, 4)), {})
        >>> [tuple(factor.shape) for factor in factors_of(call).values]
        [(2, 3), (3, 4)]
    """
    if call.name == "einsum":
        operands = call.args[1] if isinstance(call.args[1], (tuple, list)) else call.args[1:]
        return Factors(
            list(operands), lambda new: Call(call.operation, (call.args[0], *new), call.kwargs)
        )
    if call.name in SEVERAL_FACTORS:
        return Factors(
            list(tensors_in(call.args)),
            lambda new: Call(call.operation, (new,) if call.args[1:] == () else tuple(new), {}),
        )
    offset = 1 if call.name in PRODUCTS_PLUS else 0
    names = _NAMES.get(
        call.name, (("input", "self", "a"), ("other", "mat2", "vec", "vec2", "tensor", "b"))
    )
    places = [_place(call, offset + i, names[i]) for i in range(2)]

    def rebuild(new: list[Any]) -> Call:
        args, kwargs = list(call.args), dict(call.kwargs)
        for place, value in zip(places, new, strict=True):
            if isinstance(place, int):
                args[place] = value
            else:
                kwargs[place] = value
        return Call(call.operation, tuple(args), kwargs)

    values = [call.args[p] if isinstance(p, int) else call.kwargs[p] for p in places]
    return Factors(values, rebuild)


def _place(call: Call, position: int, names: tuple[str, ...]) -> int | str:
    if position < len(call.args):
        return position
    return next(name for name in names if name in call.kwargs)


_NAMES = {
    "addmm": (("mat1",), ("mat2",)),
    "bilinear": (("input1",), ("input2",)),
    "linalg_vecdot": (("x",), ("y",)),
    "addcmul": (("tensor1",), ("tensor2",)),
    **dict.fromkeys(("baddbmm", "addbmm"), (("batch1",), ("batch2",))),
}


def gated_product(call: Call, mode: BackwardRules) -> Any:
    """Product of gate and signal: the gate is a constant, R_signal = R_product (Arras et al. 2017).

    Two signals without a gate between them share equally.
    """
    factors = factors_of(call)
    ranks = [mode.gate_rank(v) if mode.is_signal(v) else -1 for v in factors.values]
    lowest = min((rank for rank in ranks if rank >= 0), default=0)
    held = [
        value.detach() if rank > lowest else value
        for value, rank in zip(factors.values, ranks, strict=True)
    ]
    return shared_product(factors.rebuild(held), mode)


def shared_product(call: Call, mode: BackwardRules) -> Any:
    """Product of n signals: each gets R / n (Achtibat et al. 2024, eq. 7).

    A product is linear in each of its factors, so that the plain gradient would give each all of R.
    """
    factors = factors_of(call)
    count = sum(mode.is_signal(value) for value in factors.values)
    if count < 2:
        return call.run()
    shared = [scaled(v, 1 / count) if mode.is_signal(v) else v for v in factors.values]
    return factors.rebuild(shared).run()


def quotient(call: Call, mode: BackwardRules) -> Any:
    """Quotient: all relevance to the numerator, the denominator is a constant.

    So a normalisation written by hand (x / x.norm()) conserves relevance, as layer normalisation
    does (Ali et al. 2022). In 1 / x, relevance goes to x unchanged.
    """
    numerator, denominator = call.first, call.argument(1, "other")
    if call.name in ("rdiv", "rtruediv"):
        numerator, denominator = denominator, numerator
    if not mode.is_signal(denominator):
        return call.run()
    if mode.is_signal(numerator):
        constant = denominator.detach()
        result = call.with_tensors(lambda v: constant if v is denominator else v).run()
        if mode.gate_rank(numerator) and mode.gate_rank(denominator):  # exp(z) / sum(exp(z))
            mode.mark_attention(result)
        return result
    # d(c / x)/dx = -c / x^2: the plain gradient with the sign turned is R / x.
    turned = scaled(denominator, -1)
    result = call.with_tensors(lambda value: turned if value is denominator else value).run()
    mode.mark_gate(result, NORMALIZER_RANK)
    return result


def attention(call: Call, mode: BackwardRules) -> Tensor:
    """Scaled dot-product attention: the weights are gates on the values (Ali et al. 2022).

    R goes to the values in proportion to A_ij v_j, none to queries, keys and what is added to the
    logits as a mask, such as relative positions that are looked up by the queries.
    """
    query, key, value, mask = _attended(call)
    if not mode.is_signal(value):  # the same values for all images: only the weights know them
        result: Tensor = call.run()
        mode.note_without_rule(f"{call.name} to constant values", [result])
        return result
    mask = mask.detach() if mode.is_signal(mask) else mask
    return _attend(call, [query.detach(), key.detach(), value, mask])


def shared_attention(call: Call, mode: BackwardRules) -> Tensor:
    """Scaled dot-product attention of AttnLRP (Achtibat et al. 2024, eq. 7 and 13).

    Values and weights share equally; what the weights get passes the softmax by its gradient and
    is shared by the sum of mask and product, and by queries and keys.
    """
    shares = (0.25, 0.25, 0.5, 0.5)
    return _attend(
        call,
        [
            scaled(tensor, share) if mode.is_signal(tensor) else tensor
            for tensor, share in zip(_attended(call), shares, strict=True)
        ],
    )


_ATTENDED = ("query", "key", "value", "attn_mask")


def _attended(call: Call) -> list[Any]:
    return [call.argument(i, name) for i, name in enumerate(_ATTENDED)]


def _attend(call: Call, attended: list[Any]) -> Tensor:
    kwargs = {k: v for k, v in call.kwargs.items() if k not in _ATTENDED}
    result: Tensor = call.operation(*attended, *call.args[len(_ATTENDED) :], **kwargs)
    return result


def gated_linear_unit(call: Call, mode: BackwardRules) -> Tensor:
    """GLU a * sigmoid(b): the sigmoid is a gate."""
    signal, gate = call.first.chunk(2, dim=call.argument(1, "dim", -1))
    result: Tensor = signal * gate.detach().sigmoid()
    return result


def shared_gated_linear_unit(call: Call, mode: BackwardRules) -> Tensor:
    """GLU of AttnLRP: both halves share equally, and the sigmoid passes relevance on."""
    signal, before = call.first.chunk(2, dim=call.argument(1, "dim", -1))
    gate = before.detach().sigmoid()
    weights = substitute(before, gate, lambda g: 0.5 * g * gate / before.detach())
    result: Tensor = scaled(signal, 0.5) * weights
    return result
