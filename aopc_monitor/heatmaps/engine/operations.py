"""Kinds of torch operations, by their plain names."""

from __future__ import annotations

# The entry of a table for the linear operations that work on the images themselves.
FIRST_LAYER = "first layer"
# What is asked about a tensor, and answered without one.
QUERIES = frozenset({
    "assert", "device", "dim", "dtype", "is_complex", "is_contiguous", "is_cuda",
    "is_floating_point", "itemsize", "layout", "len", "ndim", "ndimension", "numel", "shape",
    "size", "stride",
})  # fmt: skip
VIEWS = frozenset({
    "flatten", "reshape", "reshape_as", "squeeze", "unflatten", "unsqueeze", "view", "view_as",
})  # fmt: skip
# These hand on what they were given, maybe in another memory layout or precision.
COPIES = frozenset({
    "bfloat16", "clone", "contiguous", "cpu", "cuda", "data", "double", "dropout", "float", "half",
    "real", "requires_grad", "retain_grad", "to", "type", "type_as",
})  # fmt: skip
RESHAPES = VIEWS | COPIES | {
    "as_strided", "atleast_1d", "atleast_2d", "atleast_3d", "block_diag", "broadcast_tensors",
    "broadcast_to", "cat", "channel_shuffle", "chunk", "column_stack", "complex", "concat",
    "concatenate", "conj", "conj_physical", "constant_pad_nd", "copy", "diag", "diag_embed",
    "diagonal", "diagonal_scatter", "dsplit", "dstack", "expand", "expand_as", "flip", "fliplr",
    "flipud", "gather", "getitem", "H", "hsplit", "hstack", "imag", "index_select",
    "masked_select", "mH", "moveaxis", "movedim", "mT", "narrow", "nested_get_values",
    "nested_tensor_from_tensor_list", "nested_to_padded_tensor", "nested_view_from_jagged",
    "pack_padded_sequence", "pad", "pad_packed_sequence", "permute", "pixel_shuffle",
    "pixel_unshuffle", "ravel", "repeat", "repeat_interleave", "resolve_conj", "resolve_neg",
    "roll", "rot90", "select", "select_scatter", "setitem", "split", "split_with_sizes", "stack",
    "swapaxes", "swapdims", "T", "t", "take_along_dim", "tensor_split", "tile", "to_padded_tensor",
    "transpose", "unbind", "unfold", "unsafe_chunk", "unsafe_split", "view_as_complex",
    "view_as_real", "vsplit", "vstack",
}  # fmt: skip
AFFINE = frozenset({"add", "div", "mul", "neg", "rsub", "sub"})
# Averages with weights that sum to one: relevance itself can be shared by these weights.
AVERAGES = frozenset({"avg_pool2d", "interpolate", "upsample"})
# These make a gate of what is a gate.
KEEP_GATES = RESHAPES | AFFINE | AVERAGES | {
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "amax", "amin",
    "avg_pool1d", "avg_pool3d", "clamp", "clamp_max", "clamp_min", "masked_fill", "max_pool2d",
    "cumprod", "cumsum", "index_add", "index_reduce", "maximum", "mean", "minimum", "pow", "prod",
    "scatter_add", "scatter_reduce", "sqrt", "square", "sum", "topk", "where",
}  # fmt: skip
# These make a gate of several gates, or of attention weights (talking heads); else a feature.
MIX_GATES = frozenset({
    "batch_norm", "bmm", "conv2d", "einsum", "layer_norm", "linear", "matmul", "mm",
})  # fmt: skip
# These are linear in their first argument, and not exact if the argument named here depends on the
# images as well.
ALSO_LINEAR_IN = {"lerp": (2, "weight"), "grid_sample": (1, "grid")}
ALSO_LINEAR_IN |= dict.fromkeys(
    ("ps_roi_align", "ps_roi_pool", "roi_align", "roi_pool"), (1, "rois")
)
# What they do with the values that meet at one place; products are no sum.
REDUCTIONS = {"index_reduce": (4, "reduce"), "scatter_reduce": (4, "reduce")}

POSITIVELY_HOMOGENEOUS_ACTIVATIONS = ("relu", "leaky_relu", "prelu", "rrelu")
# Rectifiers, smooth or not: small below zero, close to the identity above.
RECTIFIERS = (
    "celu", "elu", "gelu", "hardswish", "mish", "relu6", "selu", "silu", "softplus", "threshold",
)  # fmt: skip
ELEMENTWISE = (
    *RECTIFIERS,
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "clamp", "clamp_max",
    "clamp_min", "cos", "cosh", "erf", "erfc", "exp", "exp2", "expm1", "fix", "float_power",
    "floor", "frac", "hardshrink", "hardtanh", "log", "log10", "log1p", "log2", "log_sigmoid",
    "logit", "pow", "reciprocal", "round", "rsqrt", "sgn", "sign", "sin", "sinh", "softshrink",
    "softsign", "sqrt", "square", "tan", "tanh", "tanhshrink", "trunc",
)  # fmt: skip
GATES = ("sigmoid", "hardsigmoid", "softmax")
# Bounded, but as often signals as they are gates: as in a GELU or a hard-swish written by hand.
BOUNDED = ("erf", "hardtanh", "relu6", "tanh")
NORMALIZERS = ("pow", "reciprocal", "rsqrt")
NORMALIZATIONS = ("layer_norm", "group_norm", "instance_norm", "rms_norm")

# Transforms of Fourier, with complex numbers as pairs of real ones: R = Re(a conj(g)).
FOURIER = frozenset({
    *(f"fft_{kind}fft{d}" for kind in ("", "i", "r", "ir", "h", "ih") for d in ("", "2", "n")),
    "fft_fftshift", "fft_ifftshift", "istft", "stft",
})  # fmt: skip
SUMS = FOURIER | frozenset({
    "add", "sub", "rsub", "neg", "sum", "mean", "nansum", "nanmean", "cumsum", "positive",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_avg_pool3d", "interpolate", "upsample", "upsample_bilinear", "upsample_nearest",
    "upsample_bicubic2d", "upsample_bilinear2d", "upsample_linear1d", "upsample_nearest1d",
    "upsample_nearest2d", "upsample_nearest3d", "upsample_trilinear3d", "affine_grid_generator",
    "cumulative_trapezoid", "diff", "fold", "grid_sample", "index_add", "lerp", "ps_roi_align",
    "ps_roi_pool", "roi_align", "scatter_add", "trace", "trapezoid", "trapz",
})  # fmt: skip
SELECTIONS = frozenset({
    "max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices",
    "max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "adaptive_max_pool1d_with_indices",
    "adaptive_max_pool2d_with_indices", "adaptive_max_pool3d_with_indices", "amax", "amin", "max",
    "maximum", "min", "minimum", "fmax", "fmin", "topk", "sort", "where", "masked_fill", "kthvalue",
    "median", "masked_scatter", "tril", "triu", "index_put", "scatter", "max_unpool1d",
    "max_unpool2d", "max_unpool3d", "nan_to_num",
    "aminmax", "cummax", "cummin", "fractional_max_pool2d", "fractional_max_pool3d", "index_copy",
    "index_fill", "index_reduce", "mode", "msort", "nanmedian", "nanquantile", "quantile",
    "roi_pool", "scatter_reduce", "slice_scatter",
    # Norms are positively homogeneous (Euler): x . grad |x| = |x|.
    "cdist", "dist", "hypot", "linalg_matrix_norm", "linalg_norm", "linalg_vector_norm", "norm",
    "pairwise_distance", "std", "std_mean",
})  # fmt: skip
IDENTITIES_IN_EVAL = frozenset({
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout",
})  # fmt: skip

# All of these are linear or positively homogeneous: their own gradient shares relevance by
# contributions.
GRADIENT_IS_LRP = (
    RESHAPES | SUMS | SELECTIONS | IDENTITIES_IN_EVAL | set(POSITIVELY_HOMOGENEOUS_ACTIVATIONS)
)
