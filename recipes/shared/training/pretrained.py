"""Models with weights: torchvision's, which it downloads, and those that come as packages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor, nn

from recipes.shared.training.efficientnet_lite import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    efficientnet_lite,
)
from recipes.shared.training.efficientnet_lite import NAMES as EFFICIENTNETS_LITE
from recipes.shared.training.networks import torchvision_names


class Renormalised(nn.Module):
    """A network that expects images of another normalisation.

    Args:
        network: the network.
        mean: of each channel of the images that come in, in units of the 0..1 range.
        std: of each channel, in the same units.
        wanted_mean: the mean that the network was trained with.
        wanted_std: the standard deviation that it was trained with.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        wanted_mean: Sequence[float],
        wanted_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.network = network
        given, wanted = torch.tensor([mean, std]), torch.tensor([wanted_mean, wanted_std])
        self.register_buffer("scale", (given[1] / wanted[1])[:, None, None])
        self.register_buffer("shift", ((given[0] - wanted[0]) / wanted[1])[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """What the network says of (N, 3, H, W)."""
        outputs: Tensor = self.network(images * self.scale + self.shift)
        return outputs


def categories_of(name: str) -> tuple[str, ...]:
    """The classes that the weights of a model know.

    Raises:
        ValueError: if there are no weights for a model of that name.
    """
    # EfficientNet-Lite has the classes of ImageNet, of which torchvision tells the names.
    known_by = "resnet18" if name in EFFICIENTNETS_LITE else name
    if known_by not in torchvision_names():
        raise ValueError(
            f"network {name!r} is no classification model of torchvision, and none of "
            f"{', '.join(EFFICIENTNETS_LITE)}: there are no weights for it"
        )
    weights = torchvision.models.get_model_weights(known_by).DEFAULT
    return tuple(weights.meta["categories"])


def pretrained(
    name: str, num_classes: int, mean: Sequence[float], std: Sequence[float]
) -> nn.Module:
    """A model with weights: of torchvision, which downloads them, or EfficientNet-Lite.

    Args:
        name: of the model.
        num_classes: how many classes the images have.
        mean: of each channel, that the images are normalised by; the model gets them as it was
            trained.
        std: of each channel, in the same way.

    Raises:
        ValueError: if there is no such model, or the classes are others.
        ModuleNotFoundError: if the packages of EfficientNet-Lite are not installed.
    """
    known = len(categories_of(name))
    if known != num_classes:
        raise ValueError(
            f"the weights of {name} know {known} classes, but the images have {num_classes}: give "
            "images of these classes, or train the network on yours"
        )
    return _with_weights(name, mean, std)


def pretrained_with_new_head(
    name: str, num_classes: int, mean: Sequence[float], std: Sequence[float]
) -> nn.Module:
    """A model with weights, but for its last layer, which is untrained and knows other classes.

    Args:
        name: of a model of torchvision, which downloads the weights, or an EfficientNet-Lite.
        num_classes: how many classes the images have.
        mean: of each channel, that the images are normalised by; the model gets them as it was
            trained.
        std: of each channel, in the same way.

    Raises:
        ValueError: if there are no weights for a model of that name.
        ModuleNotFoundError: if the packages of EfficientNet-Lite are not installed.
    """
    known = len(categories_of(name))
    model = _with_weights(name, mean, std)
    replace_head(model.network, known, num_classes)
    return model


def replace_head(network: nn.Module, known: int, num_classes: int) -> None:
    """Put an untrained layer in the place of the last one that gives a number for each class.

    Args:
        network: whose head is a linear layer or a convolution of single pixels; it is changed.
        known: the number of classes that it knows.
        num_classes: the number that it shall know.

    Raises:
        ValueError: if there is no such layer.

    Example:
        >>> network = nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 5))
        >>> replace_head(network, 5, 3)
        >>> network[2]
        Linear(in_features=5, out_features=3, bias=True)
    """
    heads = [
        (name, layer)
        for name, layer in network.named_modules()
        if (isinstance(layer, nn.Linear) and layer.out_features == known)
        or (isinstance(layer, nn.Conv2d) and layer.out_channels == known)
    ]
    if not heads:
        raise ValueError(
            f"{type(network).__name__} has no linear layer or convolution of {known} outputs, one "
            "for each class that it knows, in whose place a new head could stand"
        )
    name, old = heads[-1]
    parent, _, place = name.rpartition(".")
    has_bias = old.bias is not None
    new: nn.Module = (
        nn.Linear(old.in_features, num_classes, has_bias)
        if isinstance(old, nn.Linear)
        else nn.Conv2d(old.in_channels, num_classes, 1, bias=has_bias)
    )
    setattr(network.get_submodule(parent), place, new)


def _with_weights(name: str, mean: Sequence[float], std: Sequence[float]) -> Renormalised:
    """A model with weights that takes images normalised by this mean and std."""
    if name in EFFICIENTNETS_LITE:
        network = efficientnet_lite(name, has_weights=True)
        return Renormalised(network, mean, std, IMAGENET_MEAN, IMAGENET_STD)
    weights = torchvision.models.get_model_weights(name).DEFAULT
    wanted = weights.transforms()
    model = torchvision.models.get_model(name, weights=weights)
    return Renormalised(model, mean, std, wanted.mean, wanted.std)
