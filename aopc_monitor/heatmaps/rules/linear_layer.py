"""Linear operations as LRP sees them: contributions z_ij = a_i w_ij, whichever call made them.

Four things are called linear here, each a step on the way from a call to its rule:

- `LinearMap` is what a call computes, z_j = sum_i a_i w_ij + b_j, read from its arguments by one of
  the readers below (`convolution`, `fully_connected`, ...);
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
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from aopc_monitor.heatmaps.engine.audit import Audit
from aopc_monitor.heatmaps.engine.calls import Call, normalization_arguments
from aopc_monitor.heatmaps.engine.saved_values import Kept
from aopc_monitor.heatmaps.rules.stabilizer import damping
from aopc_monitor.network.sharded import are_in_blocks, bring_back

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


def convolution(call: Call, output: Tensor | None = None) -> LinearMap:
    """`conv1d`, `conv2d`, `conv3d`; like other readers, given what the call returned if it ran."""
    weight = call.argument(1, "weight")
    return _weighted(call, output, lambda scale: scale.view(-1, *[1] * (weight.ndim - 1)))


def deformable_convolution(call: Call, output: Tensor | None = None) -> LinearMap:
    """`torchvision.ops.deform_conv2d`: offsets and masks are constants, as gates are."""
    activations, weight, offset, mask, bias, *settings = call.args
    held = offset.detach(), mask.detach()

    def apply(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        shift = w.new_zeros(len(w)) if b is None else b
        result: Tensor = call.operation(a, w, *held, shift, *settings)
        return result

    return LinearMap(
        activations,
        lambda: (weight, bias),
        apply(activations, weight, bias) if output is None else output,
        apply,
        lambda scale: scale.view(-1, 1, 1, 1),
    )


def transposed_convolution(call: Call, output: Tensor | None = None) -> LinearMap:
    """`conv_transpose1d`, `conv_transpose2d`, `conv_transpose3d`."""
    weight, groups = call.argument(1, "weight"), call.argument(6, "groups", 1)

    def per_output(scale: Tensor) -> Tensor:
        # Weights are (in, out / groups, ...), the inputs of a group beneath each other.
        rows = scale.view(groups, 1, -1).expand(-1, len(weight) // groups, -1)
        return rows.reshape(len(weight), -1, *[1] * (weight.ndim - 2))

    return _weighted(call, output, per_output)


def fully_connected(call: Call, output: Tensor | None = None) -> LinearMap:
    """`linear`."""
    return _weighted(call, output, lambda scale: scale.view(-1, 1), channels_last=True)


def _weighted(
    call: Call,
    output: Tensor | None,
    per_output: Callable[[Tensor], Tensor],
    *,
    channels_last: bool = False,
) -> LinearMap:
    names = ("input", "weight", "bias")
    activations, weight, bias = (call.argument(i, name) for i, name in enumerate(names))

    def apply(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        others = {k: v for k, v in call.kwargs.items() if k not in names}
        result: Tensor = call.operation(a, w, b, *call.args[3:], **others)
        return result

    output = call.run() if output is None else output
    # Batch normalisation of more dimensions works along another axis than the features.
    scaled = None if channels_last and output.ndim != 2 else per_output
    return LinearMap(
        activations, lambda: (weight, bias), output, apply, scaled, channels_last=channels_last
    )


def matrix_product_plus(call: Call, output: Tensor | None = None) -> LinearMap:
    """`addmm`: bias + activations @ weight."""
    bias, activations, weight = (
        call.argument(position, name) for position, name in enumerate(("input", "mat1", "mat2"))
    )
    beta, alpha = call.kwargs.get("beta", 1), call.kwargs.get("alpha", 1)
    return LinearMap(
        activations,
        lambda: (weight * alpha, bias * beta),
        call.run() if output is None else output,
        _matrix_product,
        channels_last=True,
    )


def _matrix_product(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    return a @ w if b is None else a @ w + b


def batch_norm(call: Call, before: LinearMap | None) -> LinearMap:
    """Batch normalisation by running statistics, fused with the layer before it if there is one."""
    if before is None or before.per_output is None:
        return _channelwise(call, call.first)
    # The stabiliser of the layer before, if any, is left out: only the fused map counts.
    output = call.with_first(before.output).run()
    if are_in_blocks() and output.requires_grad:  # the layer before may be in another one
        output.register_hook(lambda signal: _bring(call, before))
    return LinearMap(
        before.input,
        partial(_fused_parameters, call, before),
        output,
        before.apply,
        before.per_output,
        channels_last=before.channels_last,
    )


def _bring(call: Call, before: LinearMap) -> None:
    named = normalization_arguments(call)
    bring_back([before.weight, before.bias, named.get("weight"), named.get("bias")])


def _fused_parameters(call: Call, before: LinearMap) -> tuple[Tensor, Tensor]:
    assert before.per_output is not None
    _bring(call, before)
    scale, shift = _scale_and_shift(call, call.first)
    bias = shift if before.bias is None else before.bias * scale + shift
    return before.weight * before.per_output(scale), bias


def _channelwise(call: Call, values: Tensor) -> LinearMap:
    shape = (1, -1, *[1] * (values.ndim - 2))

    def apply(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return a * w.view(shape) if b is None else a * w.view(shape) + b.view(shape)

    return LinearMap(
        values, lambda: _scale_and_shift(call, values), call.run(), apply, one_to_one=True
    )


def _scale_and_shift(call: Call, values: Tensor) -> tuple[Tensor, Tensor]:
    named = normalization_arguments(call)
    mean, variance = named["running_mean"], named["running_var"]
    weight, bias = named.get("weight"), named.get("bias")
    scale = torch.rsqrt(variance + named.get("eps", 1e-5))
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    return scale.detach().to(values.dtype), shift.detach().to(values.dtype)
