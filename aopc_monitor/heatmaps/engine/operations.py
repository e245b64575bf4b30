"""Kinds of torch operations, by their plain names."""

from __future__ import annotations

# The entry of a table for the linear operations that work on the images themselves.
FIRST_LAYER = "first layer"
VIEWS = frozenset({
    "flatten", "reshape", "reshape_as", "squeeze", "unflatten", "unsqueeze", "view", "view_as",
})  # fmt: skip
# These hand on what they were given, maybe in another memory layout or precision.
COPIES = frozenset({
    "bfloat16", "clone", "contiguous", "cpu", "cuda", "data", "double", "dropout", "float", "half",
    "real", "requires_grad", "retain_grad", "to", "type", "type_as",
})  # fmt: skip
RESHAPES = VIEWS | COPIES | {
    "H", "T", "mH", "mT",
    "as_strided", "atleast_1d", "atleast_2d", "atleast_3d", "broadcast_tensors", "broadcast_to",
    "cat", "channel_shuffle", "chunk", "column_stack", "concat", "concatenate", "copy", "diagonal",
    "dsplit", "dstack", "expand", "expand_as", "flip", "fliplr", "flipud", "gather", "getitem",
    "hsplit", "hstack", "index_select", "masked_select", "moveaxis", "movedim", "narrow", "pad",
    "permute", "pixel_shuffle", "pixel_unshuffle", "ravel", "repeat", "repeat_interleave", "roll",
    "rot90", "select", "setitem", "split", "split_with_sizes", "stack", "swapaxes", "swapdims",
    "t", "take_along_dim", "tensor_split", "tile", "transpose", "unbind", "unfold", "unsafe_chunk",
    "unsafe_split", "vsplit", "vstack",
}  # fmt: skip
AFFINE = frozenset({"add", "div", "mul", "neg", "rsub", "sub"})
# Averages with weights that sum to one: relevance itself can be shared by these weights.
AVERAGES = frozenset({"avg_pool2d", "interpolate", "upsample"})
# These make a gate of what is a gate.
KEEP_GATES = RESHAPES | AFFINE | AVERAGES | {
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "amax", "amin",
    "avg_pool1d", "avg_pool3d", "clamp", "clamp_max", "clamp_min", "masked_fill", "max_pool2d",
    "mean", "pow", "sqrt", "square", "sum", "topk", "where",
}  # fmt: skip
# These are linear in their first argument, and not exact if the argument named here depends on the
# images as well.
ALSO_LINEAR_IN = {"lerp": (2, "weight"), "grid_sample": (1, "grid")}

POSITIVELY_HOMOGENEOUS_ACTIVATIONS = ("relu", "leaky_relu", "prelu", "rrelu")
# Rectifiers, smooth or not: small below zero, close to the identity above.
RECTIFIERS = (
    "celu", "elu", "gelu", "hardswish", "mish", "relu6", "selu", "silu", "softplus", "threshold",
)  # fmt: skip
ELEMENTWISE = (
    *RECTIFIERS,
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "clamp", "clamp_max",
    "clamp_min", "cos", "cosh", "erf", "erfc", "exp", "exp2", "expm1", "float_power", "frac",
    "hardshrink", "hardtanh", "log", "log10", "log1p", "log2", "logit", "log_sigmoid", "pow",
    "reciprocal", "rsqrt", "sgn", "sign", "sin", "sinh", "softshrink", "softsign", "sqrt", "square",
    "tan", "tanh", "tanhshrink",
)  # fmt: skip
GATES = ("sigmoid", "hardsigmoid", "softmax")
# Bounded, but as often signals as they are gates: as in a GELU or a hard-swish written by hand.
BOUNDED = ("erf", "hardtanh", "relu6", "tanh")
NORMALIZERS = ("pow", "reciprocal", "rsqrt")
NORMALIZATIONS = ("layer_norm", "group_norm", "instance_norm", "rms_norm")

SUMS = frozenset({
    "add", "sub", "rsub", "neg", "sum", "mean", "nansum", "nanmean", "cumsum", "positive",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_avg_pool3d", "interpolate", "upsample", "upsample_bilinear", "upsample_nearest",
    "grid_sample", "fold", "scatter_add", "index_add", "diff", "lerp",
})  # fmt: skip
SELECTIONS = frozenset({
    "max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices",
    "max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "adaptive_max_pool1d_with_indices",
    "adaptive_max_pool2d_with_indices", "adaptive_max_pool3d_with_indices", "amax", "amin", "max",
    "maximum", "min", "minimum", "fmax", "fmin", "topk", "sort", "where", "masked_fill", "kthvalue",
    "median", "masked_scatter", "tril", "triu", "index_put", "scatter", "max_unpool1d",
    "max_unpool2d", "max_unpool3d", "nan_to_num",
    "index_copy", "slice_scatter",
    # Norms are positively homogeneous (Euler): x . grad |x| = |x|.
    "linalg_vector_norm", "std",
})  # fmt: skip
IDENTITIES_IN_EVAL = frozenset({
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout",
})  # fmt: skip

# All of these are linear or positively homogeneous: their own gradient shares relevance by
# contributions.
GRADIENT_IS_LRP = (
    RESHAPES | SUMS | SELECTIONS | IDENTITIES_IN_EVAL | set(POSITIVELY_HOMOGENEOUS_ACTIVATIONS)
)
