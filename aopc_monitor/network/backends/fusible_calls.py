"""Calls that go into one call of oneDNN: a convolution, and what follows it at each position."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution of images, whatever it is given.

    Attributes:
        weight: (out, in / groups, kH, kW).
        bias: (out,) or None.
        padding: of both sides of each dimension.
        stride: of each dimension.
        dilation: of each dimension.
        groups: of channels.
    """

    weight: Tensor
    bias: Tensor | None
    padding: list[int]
    stride: list[int]
    dilation: list[int]
    groups: int

    def is_same(self, other: Convolution) -> bool:
        """Whether it has the very same weights, and does the same with them."""
        return self.weight is other.weight and self.bias is other.bias and self.how == other.how

    @property
    def how(self) -> tuple[list[int], list[int], list[int], int]:
        """Padding, stride, dilation and groups, in the order in which oneDNN takes them."""
        return self.padding, self.stride, self.dilation, self.groups


@dataclass(frozen=True, eq=False)
class BatchNorm:
    """A normalisation by running statistics: a scale and a shift of each channel.

    Attributes:
        tensors: (C,) each: mean, variance, and weight and bias or None.
        eps: what is added to the variance.
    """

    tensors: tuple[Tensor, Tensor, Tensor | None, Tensor | None]
    eps: float
    in_place: ClassVar[bool] = False

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BatchNorm) or self.eps != other.eps:
            return False
        return all(one is its for one, its in zip(self.tensors, other.tensors, strict=True))

    def __hash__(self) -> int:
        return id(self.tensors[0])

    def folded(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weight and bias of the convolution that gives what this one makes of another's output."""
        mean, variance, gamma, beta = self.tensors
        scale = (variance.double() + self.eps).rsqrt()
        if gamma is not None:
            scale = scale * gamma
        shift = (-mean if bias is None else bias.double() - mean) * scale
        if beta is not None:
            shift = shift + beta
        return weight * scale.to(weight.dtype).view(-1, 1, 1, 1), shift.to(weight.dtype)


@dataclass(frozen=True)
class Activation:
    """A function of each number, as oneDNN knows it.

    Attributes:
        name: of the function.
        scalars: its numbers.
        in_place: whether it writes into what it is given.
    """

    name: str
    scalars: tuple[float, ...] = ()
    in_place: bool = False


Link: TypeAlias = "BatchNorm | Activation"


def convolution_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Convolution | None:
    """The convolution in a call of `torch.conv2d` that oneDNN can carry out; None for others."""
    if torch.is_autocast_enabled("cpu"):  # by the network itself
        return None
    try:
        images, convolution = _conv2d(*args, **kwargs)
    except TypeError:  # of other arguments, or by padding="same"
        return None
    weights = [t for t in (convolution.weight, convolution.bias) if t is not None]
    return convolution if images.ndim == 4 and all(map(_is_plain, (images, *weights))) else None


def _conv2d(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Tensor, Convolution]:
    how = (pair(padding), pair(stride), pair(dilation), groups)
    return images, Convolution(weight, bias, *how)


def pair(of: Any) -> list[int]:
    """What is told of both dimensions by a number, or a sequence of one or two."""
    if isinstance(of, str):
        raise TypeError
    numbers = [of] if isinstance(of, int) else list(of)
    return numbers * 2 if len(numbers) == 1 else numbers


def _is_plain(tensor: Tensor) -> bool:
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.dtype != torch.float32:
        return False
    return tensor.device.type == "cpu" and tensor.layout is torch.strided


def link_of(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Link | None:
    """What a call does to its first argument, if that can go into the convolution before."""
    try:
        return _LINKS[func](*args, **kwargs) if func in _LINKS else None
    except TypeError:  # of other arguments
        return None


def _batch_norm(
    outputs: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Link | None:
    if training or running_mean is None or running_var is None:
        return None
    tensors = (running_mean, running_var, weight, bias)
    are_plain = all(_is_plain(tensor) for tensor in tensors if tensor is not None)
    return BatchNorm(tensors, eps) if are_plain else None


def _relu(outputs: Tensor, inplace: bool = False) -> Link:
    return Activation("relu", (), inplace)


def _relu6(outputs: Tensor, inplace: bool = False) -> Link:
    return Activation("hardtanh", (0.0, 6.0), inplace)


def _hardtanh(
    outputs: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Link:
    return Activation("hardtanh", (float(min_val), float(max_val)), inplace)


def _leaky_relu(outputs: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Link:
    return Activation("leaky_relu", (float(negative_slope),), inplace)


def _silu(outputs: Tensor, inplace: bool = False) -> Link:
    return Activation("swish", (), inplace)


def _hardswish(outputs: Tensor, inplace: bool = False) -> Link:
    return Activation("hardswish", (), inplace)


def _sigmoid(outputs: Tensor) -> Link:
    return Activation("sigmoid")


# A call is known by its row here: which link it is, if any, by the arguments it is given.
_LINKS: dict[Any, Callable[..., Link | None]] = {
    F.batch_norm: _batch_norm,
    F.relu: _relu,
    torch.relu: _relu,
    torch.relu_: partial(_relu, inplace=True),
    Tensor.relu: _relu,
    Tensor.relu_: partial(_relu, inplace=True),
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
    F.leaky_relu: _leaky_relu,
    F.silu: _silu,
    F.hardswish: _hardswish,
    torch.sigmoid: _sigmoid,
    Tensor.sigmoid: _sigmoid,
}

# Calls that tell the shape or the kind of a tensor, and nothing of its numbers.
_METHODS = {"dim", "size", "stride", "numel", "nelement", "is_contiguous", "is_floating_point"}
_METHODS |= {"__len__", "is_complex", "get_device"}
_PROPERTIES = {"shape", "ndim", "dtype", "device", "layout", "requires_grad", "is_cuda"}
_PROPERTIES |= {"is_sparse", "is_quantized", "is_mkldnn", "is_mps", "is_meta", "is_nested"}


def tells_no_numbers(func: Any) -> bool:
    """Whether what a call returns does not depend on the numbers in a tensor.

    Example:
        >>> tells_no_numbers(Tensor.size), tells_no_numbers(Tensor.shape.__get__)
        (True, True)
        >>> tells_no_numbers(Tensor.sum), tells_no_numbers(Tensor.data.__get__)
        (False, False)
    """
    name = getattr(func, "__name__", "")
    if name == "__get__":
        return getattr(getattr(func, "__self__", None), "__name__", "") in _PROPERTIES
    return name in _METHODS


def tensors_in(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """The tensors that a call is given, also in lists."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from (member for member in value if isinstance(member, Tensor))
