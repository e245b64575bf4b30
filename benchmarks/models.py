"""torchvision's classification models, with random weights that should conserve relevance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

ARGUMENTS: dict[str, dict[str, Any]] = {
    "googlenet": {"init_weights": False},
    "inception_v3": {"init_weights": False},
}
SIZES = {"inception_v3": 96, "maxvit_t": 224}
CONSTANTS = ("bias", "pos_embedding", "class_token")


def names() -> list[str]:
    """All classification models of torchvision."""
    return list(torchvision.models.list_models(module=torchvision.models))


def conserving(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A model in float64 that adds no constants, two images, and the classes that it predicts.

    Biases, shifts of batch normalisation, position embeddings and class tokens are zero, so that
    LRP-epsilon has nothing to lose relevance to. Batch normalisation is calibrated on a batch, and
    where there is no normalisation, weights are scaled: activations are of order one.
    """
    torch.manual_seed(0)
    arguments = dict(ARGUMENTS.get(name, {}))
    size = SIZES.get(name, 64)
    if name.startswith("vit"):
        size = 56 if name == "vit_h_14" else 64
        arguments["image_size"] = size
    model: nn.Module = torchvision.models.get_model(name, weights=None, **arguments).double().eval()
    _remove_constants(model)
    images = torch.randn(4, 3, size, size, dtype=torch.float64)
    _calibrate(model, images)
    with torch.no_grad():
        # Not any class: the error is relative to the score, which for some class is almost zero.
        target = model(images[:2]).argmax(dim=1)
    return model, images[:2], target


def _remove_constants(model: nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(CONSTANTS):
                parameter.zero_()
            elif name.endswith("layer_scale"):
                parameter.fill_(1.0)  # at its 1e-6, most blocks would not matter
            elif not parameter.any():
                parameter.normal_(std=0.02)


def _calibrate(model: nn.Module, images: Tensor) -> None:
    """One pass over the images that brings activations to order one."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the statistics of this batch, and nothing else
        norm.train()
    handles = []
    if not norms and not any(isinstance(m, nn.LayerNorm) for m in model.modules()):
        layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        handles = [layer.register_forward_hook(_to_unit_scale) for layer in layers]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    for norm in norms:
        norm.eval()
        if norm.running_mean is not None:
            norm.running_mean.zero_()


def _to_unit_scale(layer: Any, inputs: Any, output: Tensor) -> Tensor:
    scale = output.std()
    layer.weight.data /= scale
    return output / scale


def conservation_error(
    model: nn.Module, images: Tensor, target: Tensor, relevance: Callable[[], Tensor]
) -> float:
    """Largest |sum R - f| / |f| over the images.

    Args:
        model: network.
        images: (N, C, H, W).
        target: (N,).
        relevance: makes (N, H, W).
    """
    sums = relevance().sum(dim=(1, 2))
    with torch.no_grad():
        scores = model(images).gather(1, target[:, None])[:, 0]
    return float(((sums - scores).abs() / scores.abs()).max())
