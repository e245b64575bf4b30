"""Values, classes of pixels, several labels: AOPC equals a plain loop over eq. 11 and 12."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import area_over_perturbation_curve
from aopc_monitor.heatmaps import named_heatmaps
from aopc_monitor.metrics.evaluation import evaluate
from aopc_monitor.network.execution import Execution
from aopc_monitor.perturbation.protocol import PerturbationProtocol
from tests.unet import UNet

SETTINGS: dict[str, Any] = {
    "region_size": 4, "steps": 6, "data_range": (0.0, 1.0), "replacement": "mean",
}  # fmt: skip
IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def slow_curve(score: Any, image: Tensor, heatmap: Tensor) -> list[float]:
    """f(x^(0)) ... f(x^(L)) of one image (C, H, W), region by region."""
    cells = heatmap.view(4, 4, 4, 4).mean(dim=(1, 3)).flatten().argsort(descending=True)
    perturbed, mean = image.clone(), image.mean(dim=(1, 2))[:, None, None]
    found = [float(score(perturbed[None]))]
    for cell in cells[:6].tolist():
        row, column = divmod(cell, 4)
        perturbed[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = mean
        found.append(float(score(perturbed[None])))
    return found


def area(curve: list[float]) -> float:
    return sum(curve[0] - f for f in curve) / len(curve)


def head(columns: int, scale: float = 4.0) -> nn.Module:
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    last = nn.Linear(16, columns)
    with torch.no_grad():
        last.weight.mul_(scale)
    return nn.Sequential(*layers, last).double().eval()


class Ending(nn.Module):
    def __init__(self, network: nn.Module, end: Any) -> None:
        super().__init__()
        self.network, self.end = network, end

    def forward(self, images: Tensor) -> Any:
        return self.end(self.network(images))


# Values


@pytest.mark.parametrize("end", [lambda y: y, lambda y: y[:, 0], lambda y: {"prediction": y}])
def test_a_value(end: Any) -> None:
    network = head(1)
    result = area_over_perturbation_curve(
        Ending(network, end), IMAGES, IMAGES[:, 0], score="value", **SETTINGS
    )
    with torch.no_grad():
        slow = [area(slow_curve(network, x, x[0])) for x in IMAGES]
    assert result.per_image.tolist() == pytest.approx(slow, abs=1e-9)


@pytest.mark.parametrize("target", [torch.tensor([2, 0, 1]), lambda y: y.argmin(dim=1)])
def test_several_values_want_a_column(target: Any) -> None:
    network = head(3)
    with pytest.raises(ValueError, match=r"target is missing: of outputs \(3, 3\)"):
        area_over_perturbation_curve(network, IMAGES, IMAGES[:, 0], score="value", **SETTINGS)
    result = area_over_perturbation_curve(
        network, IMAGES, IMAGES[:, 0], score="value", target=target, **SETTINGS
    )
    with torch.no_grad():
        columns = target(network(IMAGES)) if callable(target) else target
        slow = [
            area(slow_curve(lambda x, k=int(k): network(x)[0, k], x, x[0]))
            for x, k in zip(IMAGES, columns, strict=True)
        ]
    assert result.target.tolist() == columns.tolist()
    assert result.per_image.tolist() == pytest.approx(slow, abs=1e-9)


def test_a_value_has_neither_confidence_nor_accuracy() -> None:
    protocol = PerturbationProtocol(**SETTINGS, score="value")
    found = evaluate(head(1), IMAGES, torch.zeros(3), named_heatmaps("lrp"), protocol, 0)
    assert set(found.summary()) == {
        f"{name}{end}" for name in ("lrp", "lrp_gain", "random") for end in ("", "_sem")
    }


# Classes of pixels


def slow_segmentation(network: nn.Module, image: Tensor, target: int | None = None) -> Any:
    """The class, its curve, its mean probability, and the map of classes, of one image."""
    logits = network(image[None])[0]
    if len(logits) == 1:
        logits = torch.stack([-logits[0], logits[0]])
        probabilities = logits.sigmoid()
    else:
        probabilities = logits.softmax(dim=0)
    classes = logits.argmax(dim=0)
    if target is None:
        target = int(classes.flatten().bincount().argmax())
    pixels = classes == target

    def score(x: Tensor) -> Tensor:
        out = network(x)[0]
        out = torch.stack([-out[0], out[0]]) if len(out) == 1 else out
        return out[target][pixels].mean()

    confidence = float(probabilities[target][pixels].mean())
    return target, slow_curve(score, image, image[0]), confidence, classes


@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize("end", [lambda y: y, lambda y: {"aux": y.flip(1), "out": y}])
@pytest.mark.parametrize("chunk_size", [2, None])
def test_segmentation(classes: int, end: Any, chunk_size: int | None) -> None:
    network = UNet(classes).double().eval()
    result = area_over_perturbation_curve(
        Ending(network, end), IMAGES, IMAGES[:, 0], score="segmentation",
        execution=Execution(chunk_size), **SETTINGS,
    )  # fmt: skip
    with torch.no_grad():
        slow = [slow_segmentation(network, x) for x in IMAGES]
    assert result.target.tolist() == [target for target, *_ in slow]
    assert result.per_image.tolist() == pytest.approx([area(c) for _, c, *_ in slow], abs=1e-9)
    curves = torch.tensor([curve for _, curve, *_ in slow], dtype=torch.float64)
    torch.testing.assert_close(result.curves, curves)


def test_each_class_that_pixels_have_is_an_explanation_of_its_own() -> None:
    network = UNet(5).double().eval()
    result = area_over_perturbation_curve(
        network, IMAGES, IMAGES[:, 0], score="segmentation", target="predicted", **SETTINGS
    )
    assert (result.target.sum(dim=1) > 1).all()
    with torch.no_grad():
        for n, image in enumerate(IMAGES):
            classes = network(image[None])[0].argmax(dim=0).unique().tolist()
            assert result.target[n].nonzero()[:, 0].tolist() == classes
            areas = [area(slow_segmentation(network, image, k)[1]) for k in classes]
            assert float(result.per_image[n]) == pytest.approx(sum(areas) / len(areas), abs=1e-9)
    assert result.forwards == 3 + 6 * int(result.target.sum())


@pytest.mark.parametrize("ignored", [255, -100, -1])
def test_confidence_and_accuracy_of_pixels(ignored: int) -> None:
    network = UNet(5).double().eval()
    masks = torch.randint(0, 5, (3, 16, 16), generator=torch.Generator().manual_seed(3))
    masks[:, :5] = ignored
    masks[1] = ignored  # an image without any label counts for nothing
    protocol = PerturbationProtocol(**SETTINGS, score="segmentation")
    found = evaluate(network, IMAGES, masks, named_heatmaps("lrp"), protocol, 0)
    with torch.no_grad():
        slow = [slow_segmentation(network, x) for x in IMAGES]
    right = [
        float((slow[n][3][5:] == masks[n, 5:]).double().mean()) for n in (0, 2)
    ]  # fmt: skip
    assert found.mean("accuracy") == pytest.approx(sum(right) / 2, abs=1e-9)
    confidence = sum(entry[2] for entry in slow) / 3
    assert found.mean("confidence") == pytest.approx(confidence, abs=1e-9)
    assert "label_accuracy" not in found.summary()


# Several labels


@pytest.mark.parametrize("score", ["sigmoid", "probability", "logit"])
def test_each_label_is_explained_by_itself(score: str) -> None:
    network = head(4)
    labels = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]])
    heatmaps = torch.rand(3, 4, 16, 16, generator=torch.Generator().manual_seed(5)).double()
    result = area_over_perturbation_curve(
        network, IMAGES, heatmaps, score=score, target=labels, **SETTINGS
    )
    function: Any = {
        "sigmoid": torch.sigmoid,
        "logit": lambda y: y,
        "probability": lambda y: y.softmax(dim=-1),
    }[score]
    areas: list[list[float]] = [[], [], []]
    with torch.no_grad():
        for n, k in labels.nonzero().tolist():

            def f(x: Tensor, k: int = k) -> Tensor:
                return function(network(x)[0])[k]  # type: ignore[no-any-return]

            areas[n].append(area(slow_curve(f, IMAGES[n], heatmaps[n, k])))
    assert float(result.per_image[0]) == pytest.approx(sum(areas[0]) / 3, abs=1e-9)
    assert float(result.per_image[2]) == pytest.approx(areas[2][0], abs=1e-9)
    assert result.per_image[1].isnan()
    assert result.left_out == 1
    assert float(result.mean) == pytest.approx((sum(areas[0]) / 3 + areas[2][0]) / 2, abs=1e-9)
    assert result.forwards == 3 + 6 * 4


def test_one_label_of_each_image_is_a_class_of_each_image() -> None:
    network, classes = head(4), torch.tensor([3, 0, 1])
    kinds = {"score": "sigmoid", **SETTINGS, "replacement": "uniform", "sampled_steps": 2}
    rows = torch.eye(4)[classes].bool()
    by_class = area_over_perturbation_curve(network, IMAGES, IMAGES[:, 0], target=classes, **kinds)
    by_row = area_over_perturbation_curve(network, IMAGES, IMAGES[:, 0], target=rows, **kinds)
    assert torch.equal(by_class.per_image, by_row.per_image)
    assert torch.equal(by_class.curves.nan_to_num(), by_row.curves.nan_to_num())
    assert by_class.forwards == by_row.forwards


def test_no_image_has_a_label() -> None:
    none = torch.zeros(3, 4, dtype=torch.bool)
    result = area_over_perturbation_curve(
        head(4), IMAGES, IMAGES[:, 0], target=none, score="sigmoid", **SETTINGS
    )
    assert result.per_image.isnan().all()
    assert result.left_out == 3


# What does not fit


@pytest.mark.parametrize(
    ("network", "choices", "words"),
    [
        (head(4), {"score": "segmentation"}, r'returned a tensor of shape \(3, 4\) .*for score="seg'
         r'mentation", .*\(3, classes, height, width\): give another score='),
        (UNet(5).double(), {}, r'For classes of each pixel give score="segmentation"'),
        (UNet(5).double(), {"score": "segmentation", "target": torch.tensor([0, 9, 1])},
         "holds classes from 0 to 9"),
        (Ending(UNet(5).double(), lambda y: y.softmax(dim=1)), {"score": "segmentation"},
         "is a mean logit, but the model returns probabilities"),
        (Ending(UNet(1).double(), torch.sigmoid), {"score": "segmentation"},
         "is a mean logit, but the model returns probabilities"),
        (head(4), {"target": torch.rand(3, 4)}, "only a callable score is handed another one"),
    ],
)  # fmt: skip
def test_a_score_that_does_not_fit_is_one_sentence(
    network: nn.Module, choices: dict[str, Any], words: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=words) as told:
        area_over_perturbation_curve(
            network.eval(), IMAGES, IMAGES[:, 0], **{**SETTINGS, **choices}
        )
    assert len(str(told.value).splitlines()) == 1


def test_a_class_that_no_pixel_has() -> None:
    network = UNet(5).double().eval()
    with torch.no_grad():
        classes = network(IMAGES).argmax(dim=1)
    missing = next(k for k in range(5) if not (classes[1] == k).any())
    with pytest.raises(ValueError, match=f"target names class {missing}, as which"):
        area_over_perturbation_curve(
            network, IMAGES, IMAGES[:, 0], score="segmentation",
            target=torch.full((3,), missing), **SETTINGS,
        )  # fmt: skip
