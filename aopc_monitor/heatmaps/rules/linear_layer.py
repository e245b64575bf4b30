"""Linear operations as LRP sees them: contributions z_ij = a_i w_ij, whichever call made them.

Four things are called linear here, each a step on the way from a call to its rule:

- `LinearMap` is what a call computes, z_j = sum_i a_i w_ij + b_j, read from its arguments by one of
  `linear_readers.py` (`convolution`, ...), once it is asked for (`LinearRun`);
- `LinearLayer` is what a rule is told: the map, with activations and outputs as they were when the
  call was made, also if the network has written over them since;
- `LinearRule` is a formula: a function from a layer and the relevance of its outputs to that of its
  inputs (those of this library are in `linear_formulas.py`);
- `LinearOperation` is an entry of a table of rules: a rule with its settings (`linear(...)` makes
  it, see `linear_operation.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from aopc_monitor.heatmaps.engine.audit import Audit
from aopc_monitor.heatmaps.engine.saved_values import Kept
from aopc_monitor.heatmaps.rules.stabilizer import damping

Apply = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]


# Not frozen, which takes three times as long to make.
@dataclass(eq=False)
class LinearMap:
    """One linear operation on activations, z_j = sum_i a_i w_ij + b_j (eq. 1 and 2).

    Attributes:
        input: the activations a.
        parameters: gives w and b, when they are first asked for: not all rules need them.
        output: z, on the graph of the plain forward pass.
        apply: (a, w, b) -> z.
        per_output: makes a vector of one number per output channel broadcast against the weight;
            None where that cannot be.
        one_to_one: whether each output depends on a single input.
        channels_last: whether output channels are the last dimension, and not the second.
    """

    input: Tensor
    parameters: Callable[[], tuple[Tensor, Tensor | None]]
    output: Tensor
    apply: Apply
    per_output: Callable[[Tensor], Tensor] | None = None
    one_to_one: bool = False
    channels_last: bool = False
    _known: tuple[Tensor, Tensor | None] | None = field(default=None, init=False, repr=False)

    @property
    def weight(self) -> Tensor:
        """The weights w; batch normalisation that follows is multiplied in."""
        return self._known_parameters()[0]

    @property
    def bias(self) -> Tensor | None:
        """The biases b, or None."""
        return self._known_parameters()[1]

    def _known_parameters(self) -> tuple[Tensor, Tensor | None]:
        if self._known is None:
            self._known = self.parameters()
        return self._known


@dataclass(eq=False, slots=True)
class LinearRun:
    """A linear operation that ran, of which the rest is read when somebody asks, as few do.

    Attributes:
        input: the activations a.
        output: z.
        source: on the graph of the plain forward pass: z, or what was normalised.
        read: tells what the operation computes.
        can_be_scaled: whether batch normalisation can be multiplied into its weights.
        factors: what batch normalisation, if any, multiplied the source by, shaped to go with it.
    """

    input: Tensor
    output: Tensor
    source: Tensor
    read: Callable[[], LinearMap]
    can_be_scaled: bool = True
    factors: tuple[Tensor, ...] = ()

    @classmethod
    def of(cls, linear_map: LinearMap) -> LinearRun:
        """One that is known already."""
        output, scalable = linear_map.output, linear_map.per_output is not None
        return cls(linear_map.input, output, output, lambda: linear_map, scalable)


@dataclass(frozen=True)
class LinearLayer:
    """What a rule knows of a linear operation z_j = sum_i a_i w_ij + b_j.

    Attributes:
        map: what the operation computes.
        kept_inputs: the activations a, as they were.
        kept_outputs: z, as it was.
        audit: is told how much relevance biases took, if anybody asks.
    """

    map: LinearMap
    kept_inputs: Kept
    kept_outputs: Kept
    audit: Audit | None = None

    @property
    def inputs(self) -> Tensor:
        """Activations a_i."""
        return self.kept_inputs.value

    @property
    def weight(self) -> Tensor:
        """Weights w_ij, in the layout of the operation."""
        return self.map.weight.detach()

    @property
    def bias(self) -> Tensor | None:
        """Biases b_j, or None."""
        return None if self.map.bias is None else self.map.bias.detach()

    @property
    def outputs(self) -> Tensor:
        """z_j."""
        return self.kept_outputs.value

    def share(
        self,
        relevance: Tensor,
        contributions: Sequence[tuple[Tensor, Tensor]],
        bias: Tensor | None = None,
        epsilon: float | Tensor = 0.0,
    ) -> Tensor:
        """R_i = sum_j z_ij / (z_j + epsilon sign(z_j)) R_j, with z_j = sum_i z_ij + b_j.

        Args:
            relevance: R_j, of the shape of the outputs.
            contributions: pairs (a, w), one or more, of which z_ij is the sum of all a_i w_ij.
            bias: b_j, which keeps its share.
            epsilon: stabiliser.

        Returns:
            R_i, of the shape of the inputs. Where nothing contributes to an output, its relevance
            is lost.
        """
        # Types may differ under autocast in the network's own forward.
        common = torch.promote_types(contributions[0][0].dtype, contributions[0][1].dtype)
        with torch.enable_grad():
            inputs = [a.detach().to(common).requires_grad_() for a, _ in contributions]
            weights = [w.to(common) for _, w in contributions]
            parts = [self.map.apply(a, w, None) for a, w in zip(inputs, weights, strict=True)]
            total = sum(parts[1:], start=parts[0])
        whole = total.detach()
        if bias is not None:
            whole = whole + of_outputs(self.map, bias)
        ratio = torch.where(whole.abs() > _NOTHING, relevance / whole, 0.0)
        if isinstance(epsilon, Tensor) or epsilon:
            ratio = ratio * damping(whole, epsilon)
        if bias is not None and self.audit is not None:
            self.audit.absorb((ratio * of_outputs(self.map, bias)).sum())
        gradients = torch.autograd.grad(total, inputs, ratio.to(common))
        products = [a.detach() * g for a, g in zip(inputs, gradients, strict=True)]
        return sum(products[1:], start=products[0])


LinearRule: TypeAlias = Callable[..., Tensor]
# An output that is smaller than this has no contributions to share by.
_NOTHING = 1e-30


def of_outputs(linear_map: LinearMap, vector: Tensor) -> Tensor:
    """A number per output channel, shaped to go with the outputs."""
    if linear_map.channels_last or vector.ndim != 1:
        return vector
    # A convolution may work on a single image without a batch dimension.
    positions = linear_map.output.ndim - 2 if linear_map.one_to_one else linear_map.weight.ndim - 2
    return vector.view(-1, *[1] * positions)
