"""The networks that the recipes train: small ones of our own, torchvision's, or the user's."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.resnet import BasicBlock, conv1x1

from recipes.shared.training.efficientnet_lite import NAMES as EFFICIENTNETS_LITE
from recipes.shared.training.efficientnet_lite import efficientnet_lite, packages


class SmallCNN(nn.Module):
    """Four convolutions with ReLU, three max pools, one linear layer.

    Without BatchNorm unless asked for: early in training it makes a network collapse under any
    noise, so that AOPC measures the noise and not the evidence.

    Args:
        in_channels: channels of the images.
        num_classes: number of logits.
        width: channels of the first convolution; doubled after the first and the second pool.
        image_size: height and width of the images in pixels, at least 8.
        batch_norm: whether a BatchNorm follows each convolution.

    Raises:
        ValueError: if the images are too small for three halvings.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 10,
        width: int = 32,
        image_size: int = 32,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if image_size < 8:
            raise ValueError(
                f"image_size must be at least 8, because three pools halve it; got {image_size}"
            )
        convolution = partial(_convolution, batch_norm=batch_norm)
        self.features = nn.Sequential(
            *convolution(in_channels, width),
            nn.MaxPool2d(2),
            *convolution(width, 2 * width),
            *convolution(2 * width, 2 * width),
            nn.MaxPool2d(2),
            *convolution(2 * width, 4 * width),
            nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(4 * width * (image_size // 8) ** 2, num_classes),
        )
        _channels_last(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, in_channels, image_size, image_size)."""
        logits: Tensor = self.head(self.features(images))
        return logits


def _convolution(in_channels: int, out_channels: int, batch_norm: bool) -> list[nn.Module]:
    norm = [nn.BatchNorm2d(out_channels)] if batch_norm else []
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=not batch_norm)
    return [convolution, *norm, _relu()]


def _relu() -> nn.ReLU:
    # Nobody needs what it writes over; a forward on a CPU takes a twentieth less time so.
    return nn.ReLU(inplace=True)


def _channels_last(network: nn.Module) -> None:
    # Weights in this layout carry the activations along, whatever the layout of the images: on a
    # CPU, pooling is several times faster in it.
    network.to(memory_format=torch.channels_last)


class SmallResNet(nn.Module):
    """A residual network of three stages with one basic block each, for images of 16 to 64 pixels.

    Args:
        num_classes: number of logits.
        width: channels of the first stage; doubled at the second and the third, which halve the
            image.
    """

    def __init__(self, num_classes: int = 10, width: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            _relu(),
            BasicBlock(width, width),
            _halving_block(width, 2 * width),
            _halving_block(2 * width, 4 * width),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(4 * width, num_classes),
        )
        _channels_last(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, 3, H, W)."""
        logits: Tensor = self.head(self.features(images))
        return logits


def _halving_block(in_channels: int, out_channels: int) -> BasicBlock:
    shortcut = nn.Sequential(conv1x1(in_channels, out_channels, 2), nn.BatchNorm2d(out_channels))
    return BasicBlock(in_channels, out_channels, stride=2, downsample=shortcut)


def small_vit(num_classes: int = 10, image_size: int = 32) -> nn.Module:
    """A vision transformer of torchvision: 8 x 8 patches, 4 layers of width 64, 4 heads."""
    return VisionTransformer(
        image_size=image_size,
        patch_size=image_size // 8,
        num_layers=4,
        num_heads=4,
        hidden_dim=64,
        mlp_dim=128,
        num_classes=num_classes,
    )


SMALL: dict[str, Callable[[int, int], nn.Module]] = {
    "small_cnn": lambda classes, size: SmallCNN(num_classes=classes, image_size=size),
    "small_cnn_bn": lambda classes, size: SmallCNN(
        num_classes=classes, image_size=size, batch_norm=True
    ),
    "small_resnet": lambda classes, size: SmallResNet(classes),
    "small_vit": small_vit,
}


def build(name: str, num_classes: int, image_size: int) -> nn.Module:
    """A network with random weights.

    Args:
        name: one of `SMALL`, an EfficientNet-Lite, a model of torchvision such as "resnet18", or
            "module:function" of your own, called as `function(num_classes)`.
        num_classes: number of logits.
        image_size: height and width of the images in pixels, for the small networks.

    Raises:
        ValueError: if there is no network of that name.

    Example:
        >>> import torch
        >>> build("small_resnet", 10, 32)(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    if name in SMALL:
        return SMALL[name](num_classes, image_size)
    if name in EFFICIENTNETS_LITE:
        return efficientnet_lite(name, num_classes)
    if ":" in name:
        return _of_user(name, num_classes)
    check_name(name)
    network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
    return network


def check_name(name: str, has_weights: bool = False) -> None:
    """Whether there may be a network of this name, before time is spent on images for it.

    Args:
        name: as in `build`.
        has_weights: whether it is to be trained already.

    Raises:
        ValueError: if there is none.
        ModuleNotFoundError: if the packages of EfficientNet-Lite are not installed.
    """
    if name in EFFICIENTNETS_LITE:
        packages(name, has_weights)
    elif name not in SMALL and ":" not in name and name not in torchvision_names():
        raise ValueError(
            f"network {name!r} is none of {', '.join([*SMALL, *EFFICIENTNETS_LITE])}, no "
            "classification model of torchvision, and not of the form module:function"
        )


def torchvision_names() -> list[str]:
    """All classification models of torchvision."""
    return list(torchvision.models.list_models(module=torchvision.models))


def _of_user(name: str, num_classes: int) -> nn.Module:
    module_name, _, function_name = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"network {name!r} cannot be imported: {error}") from error
    network: Any = function(num_classes)
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"network {name!r} returned {type(network).__name__}; wanted is a torch.nn.Module"
        )
    return network
