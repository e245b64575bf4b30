"""Is what came in what we work on? One clear error each: the argument, what it was, what to do."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn


class NotFiniteError(ValueError):
    """A network or a heatmap gave NaN or infinite numbers."""


def plain_tensor(tensor: Tensor) -> Tensor:
    """The same memory as a tensor without a subclass, as torch's rules expect it.

    Images of MONAI, fastai and torchvision's v2 transforms are of subclasses that survive
    operations. Subclasses that hold other tensors (distributed ones, ...) stay what they are.

    Example:
        >>> class Image(Tensor): ...
        >>> type(plain_tensor(torch.zeros(2).as_subclass(Image))).__name__
        'Tensor'
    """
    if type(tensor) is Tensor or hasattr(tensor, "__tensor_flatten__"):
        return tensor
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(Tensor)


def check_network(model: Any) -> None:
    """Raise TypeError unless the model is a network."""
    if isinstance(model, nn.Module):
        return
    habit = ""
    if isinstance(model, Tensor):
        habit = (
            ": what is measured here is a network on images, so give (model, images) and not "
            "predictions and labels"
        )
    raise TypeError(f"model is a {type(model).__name__}; wanted is a torch.nn.Module{habit}")


def checked_images(images: Any) -> Tensor:
    """The images as a plain tensor.

    Raises:
        TypeError, ValueError: unless they are a non-empty (N, C, H, W) tensor of finite
            floating-point numbers.
    """
    if isinstance(images, Tensor) and images.ndim != 4:
        raise ValueError(
            f"images has shape {tuple(images.shape)}; wanted is (N, C, H, W) with at least one "
            "image: add the batch dimension with images[None], or the channel with images[:, None]"
        )
    return checked_dense(images, "images", "(N, C, H, W)")


def checked_dense(inputs: Any, name: str, shape: str) -> Tensor:
    """Inputs of floating-point numbers as a plain tensor.

    Args:
        inputs: the inputs.
        name: what inputs of this kind are called.
        shape: of a batch of them, as messages tell it.

    Raises:
        TypeError, ValueError: unless they are a non-empty tensor of finite floating-point numbers.
    """
    if not isinstance(inputs, Tensor):
        raise TypeError(f"images is a {type(inputs).__name__}, not a tensor {shape}")
    if inputs.numel() == 0:
        raise ValueError(
            f"images is empty, of shape {tuple(inputs.shape)}: leave out batches without {name}, "
            f"which are {shape}"
        )
    if not inputs.is_floating_point():
        raise TypeError(
            f"images is {inputs.dtype}; give floating-point {name} as the network sees them, "
            "after the same conversion and normalisation as in training"
        )
    if not are_finite(inputs):
        raise ValueError("images holds NaN or infinite values")
    return plain_tensor(inputs)


def are_finite(values: Tensor) -> bool:
    """Whether no number is NaN or infinite.

    Example:
        >>> are_finite(torch.tensor([1.0, 2.0])), are_finite(torch.tensor([1.0, float("nan")]))
        (True, False)
    """
    # A sum takes a fraction of the time, and is not finite if one of its numbers is not; nor if
    # finite ones are huge.
    return math.isfinite(values.detach().sum()) or bool(torch.isfinite(values).all())


def check_heatmaps(heatmaps: Any, images: Tensor, wanted: tuple[int, ...]) -> None:
    """Raise unless heatmaps are a finite tensor of the wanted shape beside the images."""
    if not isinstance(heatmaps, Tensor):
        raise TypeError(f"heatmaps is a {type(heatmaps).__name__}, not a tensor {wanted}")
    if heatmaps.shape != wanted:
        raise ValueError(
            f"heatmaps has shape {tuple(heatmaps.shape)} for images of shape "
            f"{tuple(images.shape)}; wanted is {tuple(wanted)}, channels already pooled"
        )
    if heatmaps.device != images.device:
        raise ValueError(
            f"heatmaps is on {heatmaps.device}, images on {images.device}: move one of them"
        )
    heatmaps = heatmaps.detach()  # one that was made in inference mode may still want a gradient
    if not are_finite(heatmaps):
        bad = int((~torch.isfinite(heatmaps)).flatten(1).any(dim=1).sum())
        raise NotFiniteError(
            f"heatmaps holds NaN or infinite values in {bad} of {len(heatmaps)} images: regions "
            "cannot be ordered by it"
        )


def check_target(
    target: Any, num_images: int, num_classes: int | None = None, name: str = "target"
) -> None:
    """Raise unless a target is (N,) class indices, as far as the number of classes is known."""
    if not isinstance(target, Tensor) or target.shape != (num_images,):
        came_in = tuple(target.shape) if isinstance(target, Tensor) else type(target).__name__
        raise ValueError(
            f"{name} is {came_in}; wanted is a tensor of one class index per image, "
            f"({num_images},), such as torch.tensor([{', '.join(['3'] * min(num_images, 3))}])"
        )
    if target.is_floating_point() or target.dtype == torch.bool:
        raise TypeError(f"{name} is {target.dtype}; wanted are whole numbers")
    if num_classes is not None and not all(0 <= label < num_classes for label in target.tolist()):
        raise ValueError(
            f"{name} holds classes from {int(target.min())} to {int(target.max())}; the model has "
            f"{num_classes}, counted from 0"
        )


def checked_seed(seed: Any) -> int:
    """The seed as a number of Python's; ValueError unless it is a whole number of at least 0."""
    if not _is_whole(seed) or seed < 0:
        raise ValueError(f"seed={seed!r} must be a whole number of at least 0")
    return int(seed)


def _is_whole(value: Any) -> bool:
    """Whether it is a whole number, of numpy's as well, and not True or False."""
    return not isinstance(value, bool) and isinstance(value, Integral)


def check_positive(name: str, value: Any) -> None:
    """Raise ValueError unless value is a whole number of at least 1."""
    if not _is_whole(value) or value < 1:
        raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
