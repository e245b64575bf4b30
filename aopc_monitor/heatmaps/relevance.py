"""Rules of layer-wise relevance propagation (LRP), and which operation gets which.

A rule says how the relevance R_j of an output j of a linear operation is shared among its inputs i
(Samek et al. 2017, section II-C). The engine carries g = R / a (see `backward`), so the functions
here take the signal at the outputs, g_j = R_j / z_j, and give what continues from it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from aopc_monitor.heatmaps.backward import BackwardRules, Rule, substitute
from aopc_monitor.heatmaps.base import BackwardHeatmap
from aopc_monitor.heatmaps.calls import Call
from aopc_monitor.heatmaps.linear import LinearLayer, LinearRule, linear_rules
from aopc_monitor.heatmaps.operations import (
    COMMON_RULES,
    GRADIENT_IS_EXACT,
    OTHER_ACTIVATIONS,
    POSITIVELY_HOMOGENEOUS_ACTIVATIONS,
)

EXACT = GRADIENT_IS_EXACT.union(POSITIVELY_HOMOGENEOUS_ACTIVATIONS)


def epsilon_rule(layer: LinearLayer, epsilon: float) -> Tensor:
    """LRP-epsilon, eq. 7: R_i = sum_j z_ij / (z_j + epsilon sign(z_j)) R_j.

    z_j includes the bias, which keeps its share of the relevance. With g_j = R_j / z_j this is the
    plain gradient of a signal that is damped once: g_j z_j / (z_j + epsilon sign(z_j)).
    """
    outputs = layer.output.detach()
    return substitute(layer.output, outputs, lambda signal: signal * damping(outputs, epsilon))


def damping(outputs: Tensor, epsilon: float) -> Tensor:
    """The share z / (z + epsilon sign(z)) of a signal that is left; 0 at z = 0.

    Example:
        >>> damping(torch.tensor([-1.0, 0.0, 3.0]), epsilon=1.0)
        tensor([0.5000, 0.0000, 0.7500])
    """
    magnitude = outputs.abs()
    return magnitude / (magnitude + epsilon)


def alpha_beta_rule(layer: LinearLayer, alpha: float, beta: float) -> Tensor:
    """LRP-alpha-beta, eq. 8: R_i = sum_j (alpha z_ij+ / z_j+ + beta z_ij- / z_j-) R_j.

    z_j+ and z_j- are the sums of the positive and of the negative z_ij. As in eq. 8 the bias takes
    no part, so that relevance is conserved layer by layer. Where each output has a single input,
    such as in batch normalisation by itself, that input gets all of its relevance.
    """
    if layer.one_to_one:
        return pass_relevance(layer.input, layer.input.detach(), layer.output)
    activations = layer.input.detach()
    outputs = layer.output.detach()

    def backward(signal: Tensor) -> Tensor:
        relevance = outputs * signal
        # Contributions are positive where input and weight have the same sign.
        shares = _share(layer, activations, alpha * relevance, same_sign=True)
        if beta:
            shares = shares + _share(layer, activations, beta * relevance, same_sign=False)
        return shares

    return substitute(layer.input, outputs, backward)


def _share(
    layer: LinearLayer, activations: Tensor, relevance: Tensor, *, same_sign: bool
) -> Tensor:
    """sum_j z_ij^s / (z_j^s) R_j / a_i for the contributions of one sign s."""
    weight = layer.weight.detach()
    positive, negative = weight.clamp(min=0), weight.clamp(max=0)
    if not same_sign:
        positive, negative = negative, positive
    # After a ReLU no input is negative, and half of the work falls away.
    parts = [(activations.clamp(min=0), positive)]
    if bool((activations < 0).any()):
        parts.append((activations.clamp(max=0), negative))
    inputs = [part.requires_grad_() for part, _ in parts]
    with torch.enable_grad():
        total = sum_of([layer.apply(part, w, None) for part, w in parts])
    # Where nothing contributes with this sign, nothing is shared.
    shared = torch.where(total.abs() > 1e-20, relevance / total, 0.0)
    gradients = torch.autograd.grad(total, inputs, shared)
    if len(gradients) == 1:
        return gradients[0]
    return torch.where(activations < 0, gradients[1], gradients[0])


def sum_of(tensors: list[Tensor]) -> Tensor:
    """Sum of tensors of one shape."""
    return torch.stack(tensors).sum(dim=0) if len(tensors) > 1 else tensors[0]


def pass_through(call: Call, mode: BackwardRules) -> Tensor:
    """Nonlinearity: relevance goes to the input unchanged (section II-C, point 2).

    R_i = R_j, so g_i = g_j a_j / a_i. Where a positively homogeneous activation has this as its
    plain gradient, it needs no rule.
    """
    inputs = call.first
    # Written over by its own result, an input in place would look as if it had been the output.
    before = inputs.detach().clone() if call.in_place else inputs.detach()
    return pass_relevance(inputs, before, call.run())


def pass_relevance(inputs: Tensor, before: Tensor, outputs: Tensor) -> Tensor:
    """Outputs of an operation, each of whose elements gives all its relevance to one input.

    Args:
        inputs: where the signal goes on.
        before: their values.
        outputs: what the operation made of them.
    """
    after = outputs.detach()

    def backward(signal: Tensor) -> Tensor:
        return torch.where(before == 0, 0.0, signal * after / before)

    return substitute(inputs, outputs, backward)


def lrp_rules(rule: LinearRule) -> dict[str, Rule]:
    """The table of LRP with one rule for all linear operations."""
    return {
        **COMMON_RULES,
        **dict.fromkeys(OTHER_ACTIVATIONS, pass_through),
        **linear_rules(rule),
    }


class _LRP(BackwardHeatmap):
    """What all LRP heatmaps share: signed relevance, summed over channels."""

    def linear_rule(self) -> LinearRule:
        raise NotImplementedError

    def rules(self, images: Tensor) -> AbstractContextManager[BackwardRules]:
        """The rules of this LRP."""
        return BackwardRules(str(self), lrp_rules(self.linear_rule()), EXACT, images)

    def pool(self, images: Tensor, gradient: Tensor) -> Tensor:
        """Sum of relevance R = a g over channels."""
        return (images * gradient).sum(dim=1)


@dataclass(frozen=True)
class LRPEpsilon(_LRP):
    """LRP with the epsilon rule in every linear operation (Bach et al. 2015; Samek et al., eq. 7).

    Eval-mode batch normalisation is fused with the convolution or linear layer before it. With
    biases at zero and epsilon towards zero, the relevance of an image sums to its class score.

    Attributes:
        epsilon: stabiliser in units of the layers' outputs; the paper uses 0.01, 1 and 100.

    Raises:
        ValueError: unless epsilon is positive.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        >>> LRPEpsilon(epsilon=1.0)(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """

    epsilon: float = 0.01

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"epsilon={self.epsilon} must be positive")

    def linear_rule(self) -> LinearRule:
        """Eq. 7."""
        return lambda layer: epsilon_rule(layer, self.epsilon)


@dataclass(frozen=True)
class LRPAlphaBeta(_LRP):
    """LRP with the alpha-beta rule in every linear operation (Samek et al. 2017, eq. 8).

    Attributes:
        alpha: weight of positive contributions.
        beta: weight of negative contributions; alpha + beta = 1, so beta is 0 or negative. The
            paper uses 2 and -1.

    Raises:
        ValueError: unless alpha + beta = 1.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        >>> LRPAlphaBeta(alpha=2, beta=-1)(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """

    alpha: float = 2.0
    beta: float = -1.0

    def __post_init__(self) -> None:
        if abs(self.alpha + self.beta - 1) > 1e-6:
            raise ValueError(
                f"alpha={self.alpha} and beta={self.beta} must sum to 1; elsewhere beta is often "
                "given without its sign: alpha 2, beta 1 is alpha=2, beta=-1 here"
            )

    def linear_rule(self) -> LinearRule:
        """Eq. 8."""
        return lambda layer: alpha_beta_rule(layer, self.alpha, self.beta)
