"""LRP and deconvolution against zennit and captum, where these are right."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor.heatmaps import Deconvolution, LRPAlphaBeta, LRPEpsilon

torchvision = pytest.importorskip("torchvision")
captum_attr = pytest.importorskip("captum.attr")
zennit = pytest.importorskip("zennit")

Builder = Callable[..., nn.Module]
VGG_AND_RESNET = ["vgg11", "vgg11_bn", "resnet18"]


def narrowed(model: nn.Module) -> nn.Module:
    """With hidden linear layers of 64 outputs: the 4,096 of VGG and AlexNet take all the time."""
    if isinstance(model, (torchvision.models.VGG, torchvision.models.AlexNet)):
        places = [i for i, m in enumerate(model.classifier) if isinstance(m, nn.Linear)]
        for place in places:
            inputs = model.classifier[place].in_features if place == places[0] else 64
            outputs = model.classifier[place].out_features if place == places[-1] else 64
            model.classifier[place] = nn.Linear(inputs, outputs)
    return model


@functools.cache
def calibrated(name: str, *, biases: bool = True) -> nn.Module:
    """A torchvision model in float64 whose activations are of order one."""
    torch.manual_seed(0)
    model = narrowed(torchvision.models.get_model(name, weights=None)).double()
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model(torch.randn(8, 3, 64, 64, dtype=torch.float64))
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("bias"):
                parameter.normal_(std=0.05 if biases else 0.0)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d) and not biases:
                assert module.running_mean is not None
                module.running_mean.zero_()
    return model.eval()


def images(count: int = 2) -> Tensor:
    return torch.randn(
        count, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def without_epsilon_in_batch_norm(model: nn.Module) -> nn.Module:
    """Moves eps into the running variance: zennit's merging leaves it out of the square root."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_var is not None
            module.running_var += module.eps
            module.eps = 0.0
    return model


def by_zennit(model: nn.Module, x: Tensor, target: Tensor, linear_rule: Any) -> Tensor:
    from zennit.attribution import Gradient
    from zennit.canonizers import CompositeCanonizer, SequentialMergeBatchNorm
    from zennit.composites import LayerMapComposite
    from zennit.rules import Norm, Pass
    from zennit.torchvision import ResNetCanonizer
    from zennit.types import Activation, AvgPool, Convolution, Linear

    model = without_epsilon_in_batch_norm(model)
    layer_map: list[Any] = [
        (Activation, Pass()),
        (zennit.layer.Sum, Norm()),
        (AvgPool, Norm()),
        (Convolution, linear_rule),
        (Linear, linear_rule),
    ]
    canonizer = (
        ResNetCanonizer()
        if isinstance(model, torchvision.models.ResNet)
        else CompositeCanonizer([SequentialMergeBatchNorm()])
    )
    composite = LayerMapComposite(layer_map=layer_map, canonizers=[canonizer])
    x = x.clone().requires_grad_()
    with Gradient(model=model, composite=composite) as attributor:
        start = F.one_hot(target, 1000).to(x)
        _, relevance = attributor(x, lambda output: output.detach() * start)
    result: Tensor = relevance.detach().sum(1)
    return result


@pytest.mark.parametrize("name", VGG_AND_RESNET)
@pytest.mark.parametrize("epsilon", [0.01, 1.0])
def test_lrp_epsilon_agrees_with_zennit(name: str, epsilon: float) -> None:
    from zennit.rules import Epsilon

    model, x, target = calibrated(name), images(), torch.tensor([3, 700])
    ours = LRPEpsilon(epsilon=epsilon)(model, x, target)
    theirs = by_zennit(model, x, target, Epsilon(epsilon=epsilon))
    assert relative_error(ours, theirs) < 1e-3


@pytest.mark.parametrize("name", VGG_AND_RESNET)
def test_lrp_alpha_beta_agrees_with_zennit(name: str) -> None:
    from zennit.rules import AlphaBeta

    model, x, target = calibrated(name), images(), torch.tensor([3, 700])
    ours = LRPAlphaBeta(alpha=2, beta=-1)(model, x, target)
    theirs = by_zennit(
        model, x, target, AlphaBeta(alpha=2, beta=1, stabilizer=1e-12, zero_params="bias")
    )
    assert relative_error(ours, theirs) < 1e-3


@pytest.mark.parametrize("name", ["vgg11", "alexnet"])
def test_lrp_epsilon_agrees_with_captum(name: str) -> None:
    from captum.attr import LRP
    from captum.attr._utils.lrp_rules import EpsilonRule

    model, x, target = calibrated(name), images(), torch.tensor([3, 700])
    ours = LRPEpsilon(epsilon=1e-9)(model, x, target)
    copied = copy.deepcopy(model)
    for module in copied.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AdaptiveAvgPool2d)):
            module.rule = EpsilonRule(epsilon=1e-9)  # type: ignore[assignment]
        if isinstance(module, nn.ReLU):
            module.inplace = False
    theirs = LRP(copied).attribute(x.clone().requires_grad_(), target=target).detach().sum(1)
    assert relative_error(ours, theirs) < 1e-3


@pytest.mark.parametrize("name", ["alexnet", "vgg11"])
def test_deconvolution_agrees_with_captum(name: str) -> None:
    model, x, target = calibrated(name), images(), torch.tensor([3, 700])
    copied = copy.deepcopy(model)
    for module in copied.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    theirs = captum_attr.Deconvolution(copied).attribute(x.clone().requires_grad_(), target=target)
    theirs = torch.linalg.vector_norm(theirs.detach(), dim=1)
    assert relative_error(Deconvolution(norm="l2")(model, x, target), theirs) < 1e-10


@pytest.mark.parametrize("name", VGG_AND_RESNET)
def test_relevance_sums_to_the_class_score(name: str) -> None:
    model, x = calibrated(name, biases=False), images()
    target = torch.tensor([3, 700])
    relevance = LRPEpsilon(epsilon=1e-9)(model, x, target)
    with torch.no_grad():
        scores = model(x).gather(1, target[:, None])[:, 0]
    torch.testing.assert_close(relevance.sum(dim=(1, 2)), scores, rtol=1e-6, atol=0)
