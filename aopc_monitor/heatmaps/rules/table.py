"""The tables of rules: which operation gets which rule, and the formulas of linear operations.

The rules themselves are in `linear` (linear operations), `nonlinear` (activations and
normalisations) and `products` (gates and attention). A new formula for linear operations is its
import and one row of `LINEAR_RULES` here, with which it is in `aopc_monitor.heatmaps` and on the
API page; a rule of another operation is one row of `lrp_rules`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from aopc_monitor.heatmaps.engine.backward_rules import Rule
from aopc_monitor.heatmaps.engine.operations import (
    BOUNDED,
    ELEMENTWISE,
    FIRST_LAYER,
    GATES,
    NORMALIZATIONS,
    NORMALIZERS,
)
from aopc_monitor.heatmaps.pooling import per_channel
from aopc_monitor.heatmaps.rules.decompositions import DECOMPOSITIONS
from aopc_monitor.heatmaps.rules.linear_formulas import alpha_beta_rule as alpha_beta_rule
from aopc_monitor.heatmaps.rules.linear_formulas import epsilon_rule as epsilon_rule
from aopc_monitor.heatmaps.rules.linear_formulas import flat_rule as flat_rule
from aopc_monitor.heatmaps.rules.linear_formulas import gamma_rule as gamma_rule
from aopc_monitor.heatmaps.rules.linear_formulas import w_square_rule as w_square_rule
from aopc_monitor.heatmaps.rules.linear_formulas import z_box_rule as z_box_rule
from aopc_monitor.heatmaps.rules.linear_formulas import z_plus_rule as z_plus_rule
from aopc_monitor.heatmaps.rules.linear_layer import LinearRule
from aopc_monitor.heatmaps.rules.linear_operation import CONVOLUTIONAL, LINEAR, LinearOperation
from aopc_monitor.heatmaps.rules.linear_operation import linear as linear
from aopc_monitor.heatmaps.rules.nonlinear import (
    bounded,
    gate,
    local_response_norm,
    log_softmax,
    normalization,
    normalizer,
    pass_through,
    softmax_gradient,
)
from aopc_monitor.heatmaps.rules.positions import POSITIONS
from aopc_monitor.heatmaps.rules.products import (
    PRODUCTS_PLUS,
    SEVERAL_FACTORS,
    TWO_FACTORS,
    attention,
    gated_linear_unit,
    gated_product,
    quotient,
    shared_attention,
    shared_gated_linear_unit,
)
from aopc_monitor.heatmaps.rules.quantized import QUANTIZED
from aopc_monitor.heatmaps.rules.rectifier import rectifier
from aopc_monitor.heatmaps.rules.recurrent import RECURRENT
from aopc_monitor.heatmaps.rules.reductions import REDUCTIONS
from aopc_monitor.heatmaps.rules.softmax_by_hand import (
    exponential,
    exponential_linear_unit,
    shared_exponential,
    shared_quotient,
)
from aopc_monitor.perturbation.data_range import DataRange, data_range_tensors

Rules = Mapping[str, Rule]
LINEAR_RULES: tuple[LinearRule, ...] = (
    epsilon_rule,
    alpha_beta_rule,
    gamma_rule,
    z_plus_rule,
    flat_rule,
    w_square_rule,
    z_box_rule,
)
# The imports `name as name` are those that a type checker hands on to `aopc_monitor.heatmaps`,
# where it cannot follow a computed list.
if not TYPE_CHECKING:
    __all__ = ["attnlrp_rules", "linear", "lrp_rules", *(rule.__name__ for rule in LINEAR_RULES)]


def lrp_rules(rule: LinearOperation | None = None, epsilon: float = 0.01) -> dict[str, Rule]:
    """The table of LRP: from an operation's plain name to its rule.

    Copy it, change entries, and give it to `LRP(rules=...)`. Operations that are linear or
    positively homogeneous and have no weights (sums, pooling, ReLU, reshapes) need no entry.

    Args:
        rule: what all linear operations get; `linear(epsilon_rule, epsilon=epsilon)` if not given.
        epsilon: stabiliser of the linear operations, and of normalisations.

    Example:
        >>> lrp_rules()["conv2d"].label, lrp_rules()["gelu"].__name__
        ('epsilon rule (epsilon=0.01)', 'pass_through')
    """
    rule = linear(epsilon_rule, epsilon=epsilon) if rule is None else rule
    return {
        **dict.fromkeys((*TWO_FACTORS, *SEVERAL_FACTORS), gated_product),
        **dict.fromkeys(PRODUCTS_PLUS, gated_product),
        **dict.fromkeys(LINEAR, rule),
        "relu": rectifier,
        **dict.fromkeys(ELEMENTWISE, pass_through),
        "straight_through": pass_through,
        **dict.fromkeys(BOUNDED, bounded),
        **dict.fromkeys(GATES, gate),
        **dict.fromkeys(NORMALIZERS, normalizer),
        **dict.fromkeys(NORMALIZATIONS, normalization(epsilon)),
        **RECURRENT,
        **QUANTIZED,
        **POSITIONS,
        **REDUCTIONS,
        **DECOMPOSITIONS,
        **dict.fromkeys(("div", "rdiv", "rtruediv"), quotient),
        "exp": exponential,
        "elu": exponential_linear_unit,
        "log_softmax": log_softmax,
        "local_response_norm": local_response_norm(epsilon),
        "scaled_dot_product_attention": attention,
        "glu": gated_linear_unit,
    }


def attnlrp_rules(epsilon: float = 0.01) -> dict[str, Rule]:
    """The table of AttnLRP (Achtibat et al. 2024): LRP-epsilon, and nothing is a gate.

    So every product of two signals is shared equally.

    Example:
        >>> attnlrp_rules()["softmax"].__name__
        'softmax_gradient'
    """
    return {
        **lrp_rules(epsilon=epsilon),
        "sigmoid": pass_through,
        "hardsigmoid": pass_through,
        "softmax": softmax_gradient,
        "exp": shared_exponential,
        "elu": pass_through,
        "div": shared_quotient,
        "scaled_dot_product_attention": shared_attention,
        "glu": shared_gated_linear_unit,
    }


def in_convolutions(rule: LinearOperation) -> dict[str, Rule]:
    """Entries that give convolutions, and batch normalisation by itself, a rule of their own.

    Example:
        >>> sorted(in_convolutions(linear(z_plus_rule)))[:3]
        ['batch_norm', 'conv1d', 'conv2d']
    """
    return dict.fromkeys((*CONVOLUTIONAL, "batch_norm"), rule)


def z_box(data_range: DataRange | None, images: Tensor) -> dict[str, Rule]:
    """The entry that gives the first layer the z-box rule.

    Raises:
        ValueError: if the data range is missing or does not fit the images.
    """
    low, high = (
        per_channel(bound, images) for bound in data_range_tensors(data_range, images.shape[1])
    )
    return {FIRST_LAYER: linear(z_box_rule, low=low, high=high)}
