from __future__ import annotations

import copy
from typing import TypeVar

import pytest
import torch
import torchvision
from torch import Tensor, nn

from aopc_monitor import heatmaps
from recipes.shared.training.networks import SMALL, SmallCNN, build
from recipes.shared.training.pretrained import Renormalised, pretrained

Kind = TypeVar("Kind", bound=nn.Module)


@pytest.mark.parametrize(("channels", "classes", "size"), [(3, 10, 32), (1, 4, 8), (3, 5, 37)])
def test_network_gives_one_logit_per_class(channels: int, classes: int, size: int) -> None:
    network = SmallCNN(channels, classes, width=4, image_size=size)
    assert network(torch.zeros(2, channels, size, size)).shape == (2, classes)


def test_network_has_no_normalisation_layers() -> None:
    kinds = {type(module) for module in SmallCNN().modules()}
    assert not [kind for kind in kinds if "Norm" in kind.__name__]
    assert {nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.Linear} <= kinds


def test_logits_do_not_depend_on_the_memory_format() -> None:
    torch.manual_seed(0)
    network = SmallCNN().eval()
    images = torch.randn(2, 3, 32, 32)
    rearranged = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(network(images), network(rearranged))


@pytest.mark.parametrize("name", ["small_cnn", "small_cnn_bn", "small_resnet"])
def test_what_activations_write_over_is_needed_by_nobody(name: str) -> None:
    torch.manual_seed(0)
    network, images = build(name, 5, 32).train(), torch.randn(4, 3, 32, 32)
    plain = copy.deepcopy(network)
    for activation in modules_of(plain, nn.ReLU):
        activation.inplace = False
    assert all(activation.inplace for activation in modules_of(network, nn.ReLU))
    found = [outputs_and_gradients(which, images) for which in (network, plain)]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def modules_of(network: nn.Module, kind: type[Kind]) -> list[Kind]:
    return [module for module in network.modules() if isinstance(module, kind)]


def outputs_and_gradients(network: nn.Module, images: Tensor) -> list[Tensor]:
    torch.manual_seed(1)  # of dropout
    logits = network(images)
    return [logits, *torch.autograd.grad(logits.square().sum(), [*network.parameters()])]


def test_network_refuses_images_too_small_to_pool() -> None:
    with pytest.raises(ValueError, match=r"image_size must be at least 8, .*got 7"):
        SmallCNN(image_size=7)


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_can_be_explained(name: str) -> None:
    torch.manual_seed(0)
    network = build(name, 5, 32).eval()
    for parameter in network.parameters():
        if not parameter.any():  # the head of a vision transformer starts at zero
            nn.init.normal_(parameter, std=0.1)
    images = torch.randn(2, 3, 32, 32)
    assert network(images).shape == (2, 5)
    assert heatmaps.check(network, images, "lrp").without_rule == ()


def test_batch_norm_only_where_it_was_asked_for() -> None:
    kinds = {name: {type(m) for m in build(name, 5, 32).modules()} for name in SMALL}
    assert nn.BatchNorm2d not in kinds["small_cnn"]
    assert nn.BatchNorm2d in kinds["small_cnn_bn"]
    assert nn.BatchNorm2d in kinds["small_resnet"]


def test_names_of_torchvision_and_of_the_user() -> None:
    assert isinstance(build("squeezenet1_1", 7, 64), torchvision.models.SqueezeNet)
    built = build(f"{__name__}:of_user", 3, 32)
    assert isinstance(built, nn.Linear)
    assert built.out_features == 3


def of_user(num_classes: int) -> nn.Module:
    return nn.Linear(4, num_classes)


def not_a_module(num_classes: int) -> int:
    return num_classes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet", "network 'resnet' is none of small_cnn, small_cnn_bn"),
        ("nowhere:network", "'nowhere:network' cannot be imported: No module named 'nowhere'"),
        ("torch:no_such", "'torch:no_such' cannot be imported"),
        (f"{__name__}:not_a_module", "returned int; wanted is a torch.nn.Module"),
    ],
)
def test_a_network_that_cannot_be_built_says_why(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, 3, 32)


def test_renormalised_network_sees_images_as_it_was_trained() -> None:
    mean, std, wanted_mean, wanted_std = [0.1, 0.2, 0.3], [0.5] * 3, [0.4, 0.5, 0.6], [0.2] * 3
    pixels = torch.rand(2, 3, 4, 4)
    given, wanted = (
        (pixels - torch.tensor(m)[:, None, None]) / torch.tensor(s)[:, None, None]
        for m, s in ((mean, std), (wanted_mean, wanted_std))
    )
    network = Renormalised(nn.Identity(), mean, std, wanted_mean, wanted_std)
    torch.testing.assert_close(network(given), wanted)


def test_pretrained_weights_of_other_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="the weights of resnet18 know 1000 classes, but the im"):
        pretrained("resnet18", 10, [0.5] * 3, [0.5] * 3)
    with pytest.raises(ValueError, match="'small_cnn' is no classification model of torchvision"):
        pretrained("small_cnn", 10, [0.5] * 3, [0.5] * 3)
