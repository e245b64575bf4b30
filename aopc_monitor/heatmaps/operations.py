"""Which torch operations are of which kind, by their plain names."""

from __future__ import annotations

from torch import Tensor

from aopc_monitor.heatmaps.backward import RESHAPES, BackwardRules, Rule, substitute
from aopc_monitor.heatmaps.calls import Call

CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
TRANSPOSED_CONVOLUTIONS = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
PRODUCTS = ("matmul", "mm", "bmm")

POSITIVELY_HOMOGENEOUS_ACTIVATIONS = ("relu", "leaky_relu", "prelu", "threshold")
OTHER_ACTIVATIONS = (
    "celu", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "mish", "relu6", "selu",
    "sigmoid", "silu", "softplus", "tanh",
)  # fmt: skip

SUMS = frozenset({
    "add", "sub", "neg", "sum", "mean", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "interpolate",
    "upsample",
})  # fmt: skip
SELECTIONS = frozenset({
    "max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices",
    "max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "adaptive_max_pool1d_with_indices",
    "adaptive_max_pool2d_with_indices", "adaptive_max_pool3d_with_indices", "amax", "max",
    "maximum",
})  # fmt: skip
IDENTITIES_IN_EVAL = frozenset({
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout",
})  # fmt: skip

# Their own gradient redistributes a signal as deconvolution and LRP ask for.
GRADIENT_IS_EXACT = RESHAPES | SUMS | SELECTIONS | IDENTITIES_IN_EVAL


def scaling(call: Call, mode: BackwardRules) -> Tensor:
    """Product or quotient: linear, as long as the other factor does not depend on the images."""
    first, second = call.first, call.argument(1, "other")
    if mode.is_signal(second) and (mode.is_signal(first) or call.name == "div"):
        mode.without_rule.add(f"{call.name} of two values that both depend on the images")
    result: Tensor = call.run()
    return result


def skip_softmax(call: Call, mode: BackwardRules) -> Tensor:
    """A softmax at the end is passed by: the score explained is the one before it."""
    logits = call.first
    result: Tensor = call.run()
    if logits.ndim != 2:
        mode.without_rule.add(call.name)
        return result
    end = substitute(logits, result, lambda signal: signal)
    mode.ends[end] = f"{call.name} before the end of the network"
    return end


COMMON_RULES: dict[str, Rule] = {
    "mul": scaling,
    "div": scaling,
    "softmax": skip_softmax,
    "log_softmax": skip_softmax,
}
