"""DeepLIFT: how each operation turns differences from a reference into differences.

The engine passes multipliers, m = (difference of output) / (difference of input), where it passes
gradients otherwise. The reference goes through the network first, and what each nonlinearity made
of it is remembered call by call.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aopc_monitor.heatmaps.base import NetworkHeatmap
from aopc_monitor.heatmaps.baseline import Baseline, baseline_images
from aopc_monitor.heatmaps.engine.backward_pass import backward_pass
from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules, Rule
from aopc_monitor.heatmaps.engine.calls import Call, normalization_arguments, tensors_in
from aopc_monitor.heatmaps.engine.explained_network import Network
from aopc_monitor.heatmaps.engine.operations import (
    ELEMENTWISE,
    IDENTITIES_IN_EVAL,
    POSITIVELY_HOMOGENEOUS_ACTIVATIONS,
    RESHAPES,
    SUMS,
)
from aopc_monitor.heatmaps.engine.substitution import substitute
from aopc_monitor.heatmaps.engine.vmapped import vmap_as_loop
from aopc_monitor.heatmaps.pooling import pooled
from aopc_monitor.heatmaps.rules.linear_operation import LINEAR, MATRIX_PRODUCTS
from aopc_monitor.heatmaps.rules.products import factors_of
from aopc_monitor.heatmaps.rules.quantized import FAKE_QUANTIZERS
from aopc_monitor.heatmaps.rules.recurrent import RECURRENT

POOLS = tuple(f"{kind}max_pool{d}d" for kind in ("", "adaptive_") for d in (1, 2, 3))
EXACT = RESHAPES | SUMS | IDENTITIES_IN_EVAL


@dataclass(frozen=True)
class DeepLIFT(NetworkHeatmap):
    """DeepLIFT with the rescale rule (Shrikumar et al. 2017), summed over channels: signed.

    The relevance of an image sums to f(x) - f(x') for networks of linear layers, elementwise
    nonlinearities and max pooling. Softmax, attention and normalisations by the image's own
    statistics have no rule and are named in a warning.

    Attributes:
        baseline: the reference x', a number, one number per channel, or a `(C, *space)` tensor, in
            the network's input space.

    Raises:
        ValueError: for a baseline that does not fit the images.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        >>> DeepLIFT()(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """

    baseline: Baseline = 0.0

    def relevance(self, network: Network, images: Tensor, target: Tensor) -> Tensor:
        """Differences times multipliers."""
        reference = baseline_images(self.baseline, images)
        memory = _Reference()
        table = _rules(memory)
        entrance = reference.clone().requires_grad_().clone()
        rules_of_reference = BackwardRules("the reference of DeepLIFT", table, EXACT, entrance)
        with rules_of_reference, vmap_as_loop():
            network.outputs(entrance)
        memory.is_complete = True

        def rules(entrance: Tensor) -> BackwardRules:
            return BackwardRules("DeepLIFT", table, EXACT, entrance)

        result = backward_pass(network, images, target, rules)
        return pooled((images - reference) * result.signal, "sum")


@dataclass
class _Reference:
    """Arguments and results of the reference's calls, in their order."""

    calls: list[tuple[str, list[Tensor], Tensor]] = field(default_factory=list)
    is_complete: bool = False

    def remember(self, call: Call, inputs: list[Tensor], output: Tensor) -> None:
        """Add a call."""
        self.calls.append(
            (call.name, [t.detach().clone() for t in inputs], output.detach().clone())
        )

    def next(self, call: Call, inputs: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """The reference's inputs and output of the call that comes next."""
        name, before, output = self.calls.pop(0) if self.calls else ("nothing", [], Tensor())
        if name != call.name or [t.shape for t in before] != [t.shape for t in inputs]:
            raise ValueError(
                f"DeepLIFT met {call.name} on the images where it met {name} on the baseline: the "
                "network must do the same with every image"
            )
        return before, output


def _rules(memory: _Reference) -> dict[str, Rule]:
    def rescale(call: Call, mode: BackwardRules) -> Tensor:
        return _rescale(call, mode, memory)

    def pool(call: Call, mode: BackwardRules) -> Any:
        return _pool(call, memory)

    def product(call: Call, mode: BackwardRules) -> Any:
        return _product(call, mode, memory)

    def softmax(call: Call, mode: BackwardRules) -> Tensor:
        # A softmax at the end of a network is passed by; elsewhere it has no rule.
        result: Tensor = call.run()
        mode.mark_logits(result, call.first)
        mode.note_without_rule(call.name, [result])
        return result

    others = ("sigmoid", "hardsigmoid", "straight_through", *FAKE_QUANTIZERS)
    rescaled = (*ELEMENTWISE, *POSITIVELY_HOMOGENEOUS_ACTIVATIONS, *others)
    return {
        **dict.fromkeys(rescaled, rescale),
        **dict.fromkeys(POOLS, pool),
        **dict.fromkeys(LINEAR, _linear),
        **dict.fromkeys(("softmax", "log_softmax"), softmax),
        **dict.fromkeys(("mul", "div", *MATRIX_PRODUCTS), product),
        **RECURRENT,
    }


def _linear(call: Call, mode: BackwardRules) -> Any:
    """Linear operation: its own gradient, as long as its weights are constants."""
    result = call.run()
    named = normalization_arguments(call) if call.name == "batch_norm" else {}
    by_batch = bool(named) and (named.get("training") or named.get("running_mean") is None)
    signals = sum(mode.is_signal(value) for value in tensors_in((call.args, call.kwargs)))
    if by_batch or signals > 1:
        what = "by statistics of the batch" if by_batch else "with weights made of the images"
        mode.note_without_rule(f"{call.name} {what}", [result])
    return result


def _rescale(call: Call, mode: BackwardRules, memory: _Reference) -> Tensor:
    """Elementwise nonlinearity: m = (y - y') / (x - x') (Shrikumar et al. 2017, eq. 10)."""
    # In 2 ** x the first signal is the exponent; the base is none.
    source = next(t for t in tensors_in((call.args, call.kwargs)) if mode.is_signal(t))
    inputs = source.detach().clone()
    output: Tensor = call.run()
    if not memory.is_complete:
        memory.remember(call, [inputs], output)
        return output
    (before,), after = memory.next(call, [inputs])
    difference = inputs - before
    multiplier = (output.detach() - after) / difference
    same = _is_rounding(difference, inputs, before)
    if bool(same.any()):
        multiplier = torch.where(same, _derivative(call, source, inputs), multiplier)
    return substitute(source, output, lambda signal: signal * multiplier)


def _is_rounding(difference: Tensor, inputs: Tensor, before: Tensor) -> Tensor:
    """A mask of where a quotient of differences is noise; the derivative, its limit, is not."""
    precision = 16 * torch.finfo(difference.dtype).eps
    return difference.abs() <= 1e-10 + precision * (inputs.abs() + before.abs())


def _derivative(call: Call, source: Tensor, inputs: Tensor) -> Tensor:
    with torch.enable_grad():
        inputs = inputs.requires_grad_()
        output = call.with_tensors(lambda value: inputs if value is source else value).run()
        (derivative,) = torch.autograd.grad(output.sum(), inputs)
    return derivative


def _pool(call: Call, memory: _Reference) -> Any:
    """Max pooling: differences go to where the maximum of the image, or of the reference, is.

    With m the larger of both maxima, m - y' goes to the image's position and y - m to the
    reference's, as in the authors' and captum's implementations.
    """
    inputs = call.first
    output, position = _pooled(call, inputs.detach())
    if not memory.is_complete:
        memory.remember(call, [inputs, position], output)
        return call.run()
    (before, before_position), after = memory.next(call, [inputs, position])
    highest, values = torch.maximum(output, after), inputs.detach().clone()

    def backward(signal: Tensor) -> Tensor:
        to_image = _scattered(signal * (highest - after), position, before)
        to_reference = _scattered(signal * (output - highest), before_position, before)
        difference = values - before
        same = _is_rounding(difference, values, before)
        gradient = _scattered(signal, position, before)
        return torch.where(same, gradient, (to_image + to_reference) / difference)

    return substitute(inputs, call.run(), backward)


def _scattered(values: Tensor, positions: Tensor, like: Tensor) -> Tensor:
    """Values added up at positions of a zero tensor."""
    flat = torch.zeros_like(like).flatten(2)
    return flat.scatter_add(2, positions.flatten(2), values.flatten(2)).view_as(like)


def _pooled(call: Call, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Result and positions of the maxima."""
    with_indices = getattr(F, f"{call.name}_with_indices")
    kwargs = {k: v for k, v in call.kwargs.items() if k not in ("input", "return_indices")}
    output, positions = with_indices(inputs, *call.args[1:6], **kwargs)
    return output, positions


def _product(call: Call, mode: BackwardRules, memory: _Reference) -> Any:
    """Product of two signals: the difference is dx (y + y') / 2 + dy (x + x') / 2, exactly."""
    factors = factors_of(call)
    output = call.run()
    if sum(mode.is_signal(value) for value in factors.values) < 2:
        if call.name == "div" and mode.is_signal(factors.values[1]):
            mode.note_without_rule("div by a value that depends on the images", [output])
        return output
    if call.name == "div" or len(factors.values) != 2:
        mode.note_without_rule(f"{call.name} of several values of the images", [output])
        return output
    first, second = factors.values
    if not memory.is_complete:
        memory.remember(call, [first, second], output)
        return output
    (one, other), _ = memory.next(call, [first, second])
    halves = (first.detach() + one) / 2, (second.detach() + other) / 2
    on_graph = (
        factors.rebuild([first, halves[1]]).run() + factors.rebuild([halves[0], second]).run()
    )
    return substitute(on_graph, output, lambda signal: signal)
