"""LRP by other libraries, as well as they can: captum, and zennit with its nearest canonizer."""

from __future__ import annotations

import copy
from typing import Any

import torch.nn.functional as F
import torchvision
from captum.attr import LRP
from torch import Tensor, nn
from zennit.attribution import Gradient
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import LayerMapComposite
from zennit.layer import Sum
from zennit.rules import AlphaBeta, Epsilon, Norm, Pass
from zennit.torchvision import ResNetCanonizer, VGGCanonizer
from zennit.types import Activation, AvgPool, Convolution, Linear

EPSILON = 1e-9


def captum_lrp(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    """(N, H, W) relevance by captum's LRP, whose default is the epsilon rule with 1e-9."""
    model = _copy_out_of_place(model)
    relevance = LRP(model).attribute(images.clone().requires_grad_(), target=target)
    result: Tensor = relevance.detach().sum(dim=1)
    return result


def zennit_composite(model: nn.Module, rule: Any) -> LayerMapComposite:
    """One rule in all linear layers, with the canonizer that fits the model best."""
    if isinstance(model, torchvision.models.ResNet):
        canonizer = ResNetCanonizer()
    elif isinstance(model, torchvision.models.VGG):
        canonizer = VGGCanonizer()
    else:
        canonizer = SequentialMergeBatchNorm()
    norm = Norm(stabilizer=EPSILON)
    rules = [(Activation, Pass()), (Sum, norm), (AvgPool, norm)]
    linear = [(Convolution, rule), (Linear, rule)]
    return LayerMapComposite(layer_map=rules + linear, canonizers=[canonizer])


def zennit_lrp(model: nn.Module, images: Tensor, target: Tensor, rule: Any) -> Tensor:
    """(N, H, W) relevance by zennit; the model is left as zennit leaves it."""
    with Gradient(model=model, composite=zennit_composite(model, rule)) as attributor:

        def start(output: Tensor) -> Tensor:
            return output.detach() * F.one_hot(target, output.shape[1]).to(output)

        _, relevance = attributor(images.clone().requires_grad_(), start)
    result: Tensor = relevance.detach().sum(dim=1)
    return result


def zennit_epsilon(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    """(N, H, W) LRP-epsilon with 1e-9 by zennit, on a copy.

    zennit's merging of batch normalisation leaves eps out of the square root; here it is moved
    into the running variance, so that this is not what is measured.
    """
    model = _copy_out_of_place(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            module.running_var += module.eps
            module.eps = 0.0
    return zennit_lrp(model, images, target, Epsilon(epsilon=EPSILON))


def _copy_out_of_place(model: nn.Module) -> nn.Module:
    """A copy without modules that work in place, which both libraries' hooks refuse."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]
    return model


ZENNIT_ALPHA2_BETA1 = AlphaBeta(alpha=2, beta=1)
ZENNIT_EPSILON = Epsilon(epsilon=0.01)
