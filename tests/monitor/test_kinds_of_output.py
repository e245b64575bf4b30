"""What is logged of values, of classes of pixels, and of several labels, in a real training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.monitor.test_returned import IMAGES, Module, values, watched
from tests.unet import UNet

ROWS = torch.rand(24, 4, generator=torch.Generator().manual_seed(1)) > 0.5
KEYS = {"step", *(f"aopc/{name}" for name in ("lrp", "lrp_sem", "lrp_gain", "lrp_gain_sem"))}
KEYS |= {"aopc/random", "aopc/random_sem"}
OF_CLASSES = {"aopc/confidence", "aopc/confidence_sem", "aopc/accuracy", "aopc/accuracy_sem"}


def pixels(classes: int, end: Any = lambda y: y) -> Module:
    network = UNet(classes)

    class Pixels(Module):
        def __init__(self) -> None:
            super().__init__(lambda module, images: end(module.network(images)))
            self.network = network

    return Pixels()


def item(labels: Any) -> Any:
    return lambda i: (IMAGES[i], labels[i])


@pytest.mark.parametrize("labels", [torch.rand(24), torch.arange(24) + 18, torch.arange(24) % 2])
def test_a_regression_logs_what_has_a_meaning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: Tensor
) -> None:
    record, doubts = watched(tmp_path, Module(columns=1), item(labels), score="value")
    assert doubts == []
    assert set(values(record)) == KEYS
    told = capsys.readouterr().out
    assert "taken as a number for each image, as they are: no class, no confidence" in told
    assert "labels" not in told


def test_one_of_several_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="target is missing"):
        watched(tmp_path, Module(columns=3), score="value", on_error="raise")
    second: Any = lambda outputs: torch.full((len(outputs),), 1)  # noqa: E731
    record, _ = watched(tmp_path, Module(columns=3), score="value", target=second)
    assert "; explained is what target= chooses" in capsys.readouterr().out
    chosen, _ = watched(
        tmp_path, Module(columns=3), score="value", output_fn=lambda answer: answer[:, 1]
    )
    assert record["aopc/random"] == pytest.approx(chosen["aopc/random"], abs=1e-6)
    assert record["aopc/lrp"] == pytest.approx(chosen["aopc/lrp"], abs=1e-6)


@pytest.mark.parametrize("ignored", [255, -1, -100])
@pytest.mark.parametrize("end", [lambda y: y, lambda y: {"out": y, "aux": -y}])
def test_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str], ignored: int, end: Any) -> None:
    masks = torch.randint(0, 3, (24, 16, 16), generator=torch.Generator().manual_seed(0))
    masks[:, :4] = ignored
    module = pixels(3, end)
    record, doubts = watched(tmp_path, module, item(masks), score="segmentation", num_images=24)
    assert doubts == []
    assert set(values(record)) == KEYS | OF_CLASSES
    with torch.no_grad():
        predicted = module.eval().network(IMAGES).argmax(dim=1)
    right = (predicted == masks)[:, 4:].float().mean()
    assert record["aopc/accuracy"] == pytest.approx(float(right), abs=1e-6)
    told = capsys.readouterr().out
    assert "3 classes of each pixel, the mean logit of a class over the pixels" in told
    assert "labels from batch[1] (masks of 16 x 16" in told


def test_masks_of_another_size_are_doubted(tmp_path: Path) -> None:
    masks = torch.zeros(24, 1, 32, 32, dtype=torch.uint8)
    record, doubts = watched(tmp_path, pixels(3), item(masks), score="segmentation")
    assert any("masks of 32 x 32 are not taken, since the model gives" in text for text in doubts)
    assert "aopc/accuracy" not in record
    assert "aopc/confidence" in record


def test_a_binary_segmentation(tmp_path: Path) -> None:
    masks = (IMAGES[:, 0] > 0.5).float()[:, None]
    module = pixels(1)
    record, doubts = watched(tmp_path, module, item(masks), score="segmentation", num_images=24)
    assert doubts == []
    with torch.no_grad():
        predicted = module.eval().network(IMAGES) > 0
    assert record["aopc/accuracy"] == pytest.approx(float((predicted == masks).float().mean()))


def test_each_predicted_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = Module()
    with torch.no_grad():
        # No logit is so close to zero that rounding decides.
        module.head.bias.sub_((module.plain(IMAGES).median(dim=0).values + 1e-3) / 20)
    choices: dict[str, Any] = {"score": "sigmoid", "num_images": 24, "replacement": "mean"}
    record, doubts = watched(tmp_path, module, item(ROWS), target="predicted", **choices)
    assert doubts == []
    told = capsys.readouterr().out
    assert "independent labels, sigmoid; explained is all that is predicted" in told
    assert "forwards an evaluation of one class of each;" in told
    with torch.no_grad():
        probabilities = module.plain(IMAGES).sigmoid()
    each = probabilities > 0.5
    assert (each.sum(dim=1) != 1).any()
    kept = [p[e].mean() if e.any() else p.max() for p, e in zip(probabilities, each, strict=True)]
    assert record["aopc/confidence"] == pytest.approx(float(torch.stack(kept).mean()), abs=1e-6)
    agree = (each == ROWS).all(dim=1).float().mean()
    assert record["aopc/accuracy"] == pytest.approx(float(agree))
    likeliest, _ = watched(tmp_path, module, item(ROWS), **choices)
    assert record["aopc/lrp"] != likeliest["aopc/lrp"]
    by_function, _ = watched(
        tmp_path, module, item(ROWS), target=lambda outputs: outputs.argmax(dim=1), **choices
    )
    for key in ("aopc/lrp", "aopc/random", "aopc/confidence", "aopc/accuracy"):
        assert by_function[key] == likeliest[key]


@pytest.mark.parametrize(
    ("module", "choices"),
    [
        (Module(), {"score": "sigmoid", "target": "predicted"}),
        (pixels(3), {"score": "segmentation"}),
        (Module(columns=1), {"score": "value"}),
    ],
)
def test_figures(tmp_path: Path, module: nn.Module, choices: dict[str, Any]) -> None:
    record, doubts = watched(tmp_path, module, figures=True, **choices)  # type: ignore[arg-type]
    assert doubts == [] or all("not taken" in doubt for doubt in doubts)
    assert len(list(tmp_path.rglob("*.png"))) >= 3
    assert record["aopc/lrp"] == record["aopc/lrp"]
