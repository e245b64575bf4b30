"""Functions as scores of whatever a network returns, heads chosen by output_fn, and torchvision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.segmentation import fcn_resnet50

from aopc_monitor import AOPC, area_over_perturbation_curve, estimate_aopc, heatmaps
from tests.metrics.functional.test_kinds_of_output import (
    IMAGES,
    SETTINGS,
    Ending,
    area,
    head,
    slow_curve,
    slow_segmentation,
)
from tests.unet import UNet


def agreement(outputs: Tensor, target: Tensor) -> Tensor:
    """(M,) overlap of soft masks (M, 1, H, W) with those of the clean images (M, H, W)."""
    both = (outputs[:, 0].sigmoid() * target).sum(dim=(1, 2))
    return 2 * both / (outputs[:, 0].sigmoid().sum(dim=(1, 2)) + target.sum(dim=(1, 2)))


def clean_masks(outputs: Tensor) -> Tensor:
    return (outputs[:, 0] > 0).to(outputs.dtype)


def test_a_function_compares_with_what_the_clean_images_had() -> None:
    network = UNet(1).double().eval()
    result = area_over_perturbation_curve(
        network, IMAGES, IMAGES[:, 0], score=agreement, target=clean_masks, **SETTINGS
    )
    with torch.no_grad():
        slow = []
        for image in IMAGES:
            mask = clean_masks(network(image[None]))

            def score(x: Tensor, mask: Tensor = mask) -> Tensor:
                return agreement(network(x), mask)[0]

            slow.append(area(slow_curve(score, image, image[0])))
    assert result.per_image.tolist() == pytest.approx(slow, abs=1e-9)
    assert result.target.shape == (3, 16, 16)
    # A heatmap explains the function itself.
    seen: dict[str, Any] = {}

    def spy(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        seen["outputs"], seen["target"] = model(images), target
        return heatmaps.get("gradient_x_input")(model, images, target)

    spy.keeps_rows = True  # type: ignore[attr-defined]
    metric = AOPC(spy, score=agreement, target=clean_masks, **SETTINGS)
    metric.update(network, IMAGES)
    with torch.no_grad():
        outputs = network(IMAGES)
        wanted = agreement(outputs, clean_masks(outputs))
    torch.testing.assert_close(seen["outputs"][:, 0].detach(), wanted)
    assert seen["target"].tolist() == [0, 0, 0]
    estimate = estimate_aopc(
        network, [IMAGES], "occlusion", score=agreement, target=clean_masks, **SETTINGS
    )
    assert estimate.num_images == 3


def test_a_function_of_maps_wants_a_target() -> None:
    with pytest.raises(ValueError, match=r"target is missing: of outputs \(3, 1, 16, 16\)"):
        area_over_perturbation_curve(
            UNet(1).double(), IMAGES, IMAGES[:, 0], score=agreement, **SETTINGS
        )


def test_a_function_of_classes_is_what_it_was() -> None:
    def margin(outputs: Tensor, target: Tensor) -> Tensor:
        own = outputs.gather(1, target[:, None])
        return own[:, 0] - outputs.scatter(1, target[:, None], -torch.inf).amax(dim=1)

    network = head(4)
    result = area_over_perturbation_curve(network, IMAGES, IMAGES[:, 0], score=margin, **SETTINGS)
    with torch.no_grad():
        assert result.target.tolist() == network(IMAGES).argmax(dim=1).tolist()
        slow = [
            area(slow_curve(lambda x, k=k: margin(network(x), k[None])[0], x, x[0]))
            for x, k in zip(IMAGES, result.target, strict=True)
        ]
    assert result.per_image.tolist() == pytest.approx(slow, abs=1e-9)


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.species, self.age = head(4), head(1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"species": self.species(images), "age": self.age(images)}


@pytest.mark.parametrize(("name", "score"), [("species", "probability"), ("age", "value")])
@pytest.mark.parametrize("heatmap", ["lrp", "sensitivity_l2", "occlusion"])
def test_each_of_two_heads(name: str, score: str, heatmap: str) -> None:
    both, found = TwoHeads().eval(), []
    for model, output_fn in ((both, lambda answer: answer[name]), (getattr(both, name), None)):
        metric = AOPC(heatmap, score=score, output_fn=output_fn, **SETTINGS)
        metric.update(model, IMAGES)
        found.append(float(metric.compute()))
    assert found[0] == pytest.approx(found[1], abs=1e-9)


def test_a_head_of_classes_of_pixels() -> None:
    network = UNet(3).double().eval()
    both = Ending(network, lambda y: {"classes": y.mean(dim=(2, 3)), "pixels": y})
    plain = area_over_perturbation_curve(
        network, IMAGES, IMAGES[:, 0], score="segmentation", **SETTINGS
    )
    chosen = area_over_perturbation_curve(
        both, IMAGES, IMAGES[:, 0], score="segmentation",
        output_fn=lambda answer: answer["pixels"], **SETTINGS,
    )  # fmt: skip
    assert torch.equal(plain.per_image, chosen.per_image)


def test_torchvision_as_it_is() -> None:
    torch.manual_seed(0)
    network = fcn_resnet50(weights=None, weights_backbone=None, num_classes=4, aux_loss=True)
    network = network.double().eval()
    few = IMAGES[:2]
    result = area_over_perturbation_curve(network, few, few[:, 0], score="segmentation", **SETTINGS)
    with torch.no_grad():
        slow = [slow_segmentation(Ending(network, lambda y: y["out"]), x) for x in few]
    assert result.target.tolist() == [target for target, *_ in slow]
    assert result.per_image.tolist() == pytest.approx([area(c) for _, c, *_ in slow], abs=1e-6)
    assert heatmaps.get("lrp")(network, few, result.target).shape == (2, 16, 16)
