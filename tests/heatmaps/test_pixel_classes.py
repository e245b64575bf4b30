"""Heatmaps of networks that give each pixel a class, without any wrapper by the user."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import AOPC, heatmaps
from aopc_monitor.network.outputs import OutputError
from tests.unet import UNet

IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()


def heatmap_named(name: str, **options: Any) -> Any:
    return heatmaps.get(name, **options)


class Wrapped(nn.Module):
    """(N, classes) of a segmentation, as users of other libraries write it by hand."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        with torch.no_grad():
            outputs = self.logits(IMAGES)
        classes = outputs.argmax(dim=1)
        counts = torch.stack([c.flatten().bincount(minlength=outputs.shape[1]) for c in classes])
        self.target = counts.argmax(dim=1)
        self.pixels = classes == self.target[:, None, None]
        self.row: int | None = None

    def logits(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.network(images)
        return torch.cat([-outputs, outputs], dim=1) if outputs.shape[1] == 1 else outputs

    def forward(self, images: Tensor) -> Tensor:
        pixels = self.pixels if self.row is None else self.pixels[self.row, None]
        weights = pixels / pixels.sum(dim=(1, 2), keepdim=True)
        return (self.logits(images) * weights[:, None]).sum(dim=(2, 3))


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize(
    "name",
    ["lrp", "lrp_alpha2_beta1", "sensitivity_l2", "gradient_x_input", "deconvolution_l2",
     "integrated_gradients", "smoothgrad", "occlusion", "grad_cam"],
)  # fmt: skip
def test_heatmaps_are_those_of_the_mean_logit(classes: int, name: str) -> None:
    network = UNet(classes).double().eval()
    found = heatmap_named(name)(network, IMAGES)
    wrapped = Wrapped(network).eval()
    for row in range(3):
        wrapped.row = row
        alone = slice(row, row + 1)
        wanted = heatmap_named(name)(wrapped, IMAGES[alone], wrapped.target[alone])
        torch.testing.assert_close(found[alone], wanted, atol=1e-9, rtol=1e-6)


def test_gradient_times_input_in_closed_form() -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(3, 4, 1, bias=False).double().eval()
    with torch.no_grad():
        outputs = network(IMAGES)
        classes = outputs.argmax(dim=1)
    for name in ("gradient_x_input", "lrp"):
        found = heatmap_named(name, epsilon=1e-12) if name == "lrp" else heatmap_named(name)
        for n, relevance in enumerate(found(network, IMAGES)):
            target = int(classes[n].flatten().bincount().argmax())
            pixels = classes[n] == target
            wanted = outputs[n, target] * pixels / pixels.sum()
            torch.testing.assert_close(relevance, wanted, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("name", ["lrp", "gradient_x_input", "occlusion"])
def test_check(name: str) -> None:
    report = heatmaps.check(UNet(4).double().eval(), IMAGES, name)
    assert report.is_fine, report.line()
    assert "bmm" not in {use.name for use in report.operations}


def test_a_class_of_ones_own() -> None:
    network, lrp = UNet(4).double().eval(), heatmap_named("lrp")
    with torch.no_grad():
        classes = network(IMAGES).argmax(dim=1)
    second = torch.stack([c.flatten().bincount(minlength=4).argsort()[-2] for c in classes])
    assert not torch.equal(lrp(network, IMAGES, second), lrp(network, IMAGES))
    with torch.no_grad():
        network.segmentation_head.bias[3] = -1e6
    with pytest.raises(ValueError, match="names class 3, as which the network predicts no pixel"):
        lrp(network, IMAGES, torch.full((3,), 3))


def test_the_network_is_left_as_it_was() -> None:
    network = UNet(4).double().train()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    heatmap_named("lrp")(network, IMAGES)
    assert network.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_answers_that_are_neither() -> None:
    class Words(nn.Module):
        def forward(self, images: Tensor) -> Any:
            return "logits"

    for look in (heatmap_named("occlusion"), lambda m, x: heatmaps.check(m, x, "occlusion")):
        with pytest.raises(OutputError, match=r"returned a str for 3 images; wanted .* classes\)"):
            look(Words(), IMAGES)


@pytest.mark.parametrize("name", ["lrp", "sensitivity_l2", "occlusion", "random"])
def test_a_metric_makes_its_own(name: str) -> None:
    network = UNet(4).double().eval()
    settings: dict[str, Any] = {
        "region_size": 4, "steps": 6, "data_range": (0.0, 1.0), "score": "segmentation",
    }  # fmt: skip
    made, given = AOPC(name, **settings), AOPC(name, **settings)
    made.update(network, IMAGES)
    if name == "random":
        assert torch.isfinite(made.compute())
        return
    given.update(network, IMAGES, heatmap_named(name)(network, IMAGES))
    torch.testing.assert_close(made.compute(), given.compute(), atol=1e-9, rtol=1e-6)
