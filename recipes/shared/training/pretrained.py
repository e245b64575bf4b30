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
    if name in EFFICIENTNETS_LITE:
        network = efficientnet_lite(name, has_weights=True)
        return Renormalised(network, mean, std, IMAGENET_MEAN, IMAGENET_STD)
    weights = torchvision.models.get_model_weights(name).DEFAULT
    wanted = weights.transforms()
    model = torchvision.models.get_model(name, weights=weights)
    return Renormalised(model, mean, std, wanted.mean, wanted.std)
