"""Random weights under which a network should conserve relevance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

CONSTANTS = (
    "bias", "beta", "pos_embed", "pos_embedding", "position_embedding", "position_embeddings",
    "class_token", "cls_token", "dist_token", "reg_token", "mask_token", "distillation_token",
    "register_tokens",
)  # fmt: skip
# Layer scales are at most this when they start, so that each block begins as the identity.
SMALL = 0.2


def remove_constants(model: nn.Module) -> None:
    """Leave LRP-epsilon nothing to lose relevance to.

    Biases, shifts of normalisations, position embeddings and class tokens become zero.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(CONSTANTS) or _is_bias_of_recurrent(name):
                parameter.zero_()
            elif _is_layer_scale(parameter):
                parameter.fill_(1.0)  # at its 1e-6, most blocks would not matter
            elif not parameter.any():
                parameter.normal_(std=0.02)


def _is_bias_of_recurrent(name: str) -> bool:
    return name.rpartition(".")[2].startswith(("bias_ih", "bias_hh"))


def _is_layer_scale(parameter: Tensor) -> bool:
    first = parameter.flatten()[0]
    return parameter.numel() > 1 and bool(0 < first.abs() < SMALL and (parameter == first).all())


def calibrate(model: nn.Module, images: Tensor) -> None:
    """Bring activations to order one, without shifts.

    Batch normalisation is calibrated on the images, and where there is no normalisation, weights
    are scaled.

    Args:
        model: network in eval mode; written to.
        images: (N, C, H, W).
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    for norm in norms:
        norm.momentum = None  # the statistics of this batch, and nothing else
        norm.train()
    handles = []
    if not any("Norm" in type(m).__name__ for m in model.modules()):
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
