from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps import GradCAM
from tests.modules import small_network

captum_attr = pytest.importorskip("captum.attr")

IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
TARGET = torch.tensor([0, 3, 1])


def network(*, in_place: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    return (
        nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(inplace=in_place), nn.MaxPool2d(2), nn.Conv2d(8, 6, 3),
            nn.ReLU(inplace=in_place), nn.Flatten(), nn.Linear(150, 4),
        ).double().eval()
    )  # fmt: skip


@pytest.mark.parametrize("layer", ["0", "1", "2", "3", "4"])
def test_agrees_with_captum(layer: str) -> None:
    model = network()
    method = captum_attr.LayerGradCam(model, model[int(layer)])
    small = method.attribute(IMAGES, target=TARGET, relu_attributions=True)
    expected = captum_attr.LayerAttribution.interpolate(small, (16, 16), "bilinear")
    ours = GradCAM(layer)(model, IMAGES, TARGET)
    torch.testing.assert_close(ours, expected[:, 0].detach(), rtol=1e-10, atol=1e-12)
    assert ours.std() > 0


def test_default_is_the_last_convolution_also_before_something_in_place() -> None:
    expected = GradCAM("3")(network(), IMAGES, TARGET)
    for model in (network(), network(in_place=True)):
        torch.testing.assert_close(GradCAM()(model, IMAGES, TARGET), expected)
        torch.testing.assert_close(GradCAM("3")(model, IMAGES, TARGET), expected)


class WithAnUnreadConvolution(nn.Module):
    """As CoaT, whose last convolution encodes positions of tokens that no classifier reads."""

    def __init__(self, *, multiplied: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.read, self.unread = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.multiplied = multiplied

    def forward(self, images: Tensor) -> Tensor:
        features = self.read(images)
        beside = self.unread(features)
        scores = features.mean(dim=(2, 3))
        return scores + 0 * beside.mean(dim=(2, 3)) if self.multiplied else scores


@pytest.mark.parametrize("multiplied", [False, True])
def test_the_default_is_a_convolution_on_which_the_scores_depend(multiplied: bool) -> None:
    model = WithAnUnreadConvolution(multiplied=multiplied)
    images, target = torch.rand(2, 3, 8, 8), torch.tensor([1, 2])
    expected = GradCAM(layer="read")(model, images, target)
    assert expected.any()
    assert GradCAM()(model, images, target).equal(expected)


def test_scores_that_depend_on_no_convolution_yet_give_zeros() -> None:
    """The last layer's weights are zero at the beginning of some trainings."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    nn.init.zeros_(model[3].weight)
    assert not GradCAM()(model, torch.rand(2, 3, 8, 8)).any()


def test_the_end_of_a_name_is_enough() -> None:
    wrapped = nn.Sequential()
    wrapped.add_module("network", network())
    expected = GradCAM("network.3")(wrapped, IMAGES, TARGET)
    torch.testing.assert_close(GradCAM("3")(wrapped, IMAGES, TARGET), expected)


def test_layers_that_cannot_be_are_named() -> None:
    model = small_network().double()
    model.add_module("classifier", nn.Identity())
    with pytest.raises(ValueError, match=r"layer='clasifier' is no layer.*did you mean classifier"):
        GradCAM("clasifier")(model, IMAGES, TARGET)
    with pytest.raises(ValueError, match=r"layer='9' gave \(3, 4\); Grad-CAM needs"):
        GradCAM("9")(model, IMAGES, TARGET)
    with pytest.raises(ValueError, match=r"no convolution with an output .* was met"):
        GradCAM()(nn.Sequential(nn.Flatten(), nn.Linear(768, 4)).double(), IMAGES, TARGET)
    pair = nn.ModuleDict({"a": network(), "b": network()})
    with pytest.raises(ValueError, match=r"layer='3' is the end of several names.*a\.3, b\.3"):
        GradCAM("3")(pair, IMAGES, TARGET)


def test_no_hook_is_left_when_the_forward_raises() -> None:
    class Raising(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("half-way")

    model = network()
    model[5] = Raising()
    with pytest.raises(RuntimeError, match="half-way"):
        GradCAM("3")(model, IMAGES, TARGET)
    assert not any(module._forward_hooks for module in model.modules())
