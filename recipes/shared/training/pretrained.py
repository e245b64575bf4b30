"""Models of torchvision with the weights that torchvision downloads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor, nn

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


def pretrained(
    name: str, num_classes: int, mean: Sequence[float], std: Sequence[float]
) -> nn.Module:
    """A model of torchvision with its default weights, which torchvision downloads.

    Args:
        name: of the model.
        num_classes: how many classes the images have.
        mean: of each channel, that the images are normalised by; the model gets them as it was
            trained.
        std: of each channel, in the same way.

    Raises:
        ValueError: if torchvision has no such model, or the classes are others.
    """
    if name not in torchvision_names():
        raise ValueError(
            f"network {name!r} is no classification model of torchvision: there are no weights to "
            "download"
        )
    weights = torchvision.models.get_model_weights(name).DEFAULT
    known = len(weights.meta["categories"])
    if known != num_classes:
        raise ValueError(
            f"the weights of {name} know {known} classes, but the images have {num_classes}: give "
            "images of these classes, or train the network on yours"
        )
    wanted = weights.transforms()
    model = torchvision.models.get_model(name, weights=weights)
    return Renormalised(model, mean, std, wanted.mean, wanted.std)
