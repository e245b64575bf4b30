from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("matplotlib")

from recipes.heatmap_gallery import Explanation, Gallery, main, pixels
from recipes.shared.data import datasets
from recipes.shared.data.labelled_images import ImageData
from recipes.shared.heatmap_study import Study, chosen_heatmaps, normalised
from recipes.shared.training.networks import build

ARGUMENTS = ["--max-epochs", "1", "--num-images", "3", "--accelerator", "cpu", "--devices", "1",
             "--network", "small_cnn",
             "--heatmaps", "lrp", "lrp_epsilon_100", "deep_taylor", "sensitivity_l2"]  # fmt: skip


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> ImageData:
    data = datasets.digits(train_size=64 * 3, test_size=60)
    monkeypatch.setattr("recipes.shared.arguments.load", lambda *args, **kwargs: data)
    return data


def test_picture_and_report_are_written_and_nothing_is_done_twice(
    few: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*ARGUMENTS, "--output", str(tmp_path)]
    folder = main(arguments)
    assert folder == tmp_path / "heatmap_gallery" / "digits-on-clutter" / "small_cnn"
    before = (folder / "gallery.png").read_bytes()
    text = (folder / "report.md").read_text()
    assert "60 test images of digits on clutter" in text
    monkeypatch.setattr("pytorch_lightning.Trainer.fit", lambda *args: pytest.fail("trained again"))
    monkeypatch.setattr(Explanation, "__call__", lambda *args: pytest.fail("explained again"))
    main(arguments)
    assert (folder / "gallery.png").read_bytes() == before
    assert (folder / "report.md").read_text() == text


def test_heatmaps_are_those_of_the_library(few: ImageData) -> None:
    network = build("small_cnn", 10, 32).eval()
    images = normalised(few, torch.arange(3))
    heatmaps = chosen_heatmaps(["lrp", "grad_cam"], ([0.0], [1.0]))
    found = Explanation(heatmaps)(network, images, ["grad_cam", "prediction"])
    predicted = network(images).argmax(dim=1)
    assert found.keys() == {"grad_cam", "prediction"}
    assert torch.equal(found["prediction"]["predicted"], predicted)
    expected = heatmaps["grad_cam"](network, images, predicted)
    torch.testing.assert_close(found["grad_cam"]["relevance"], expected)


def test_a_wrong_prediction_is_told(few: ImageData, tmp_path: Path) -> None:
    rows = torch.tensor([0, 1])
    predicted = few.test.labels[rows].clone()
    predicted[1] = (predicted[1] + 1) % 10
    study = Study(few, build("small_cnn", 10, 32), rows, {}, tmp_path)
    right, wrong = Gallery(study, {}, predicted, {}, "").captions()
    assert right == few.classes[int(predicted[0])]
    assert wrong == (
        f"{few.classes[int(predicted[1])]}\n(is {few.classes[int(few.test.labels[1])]})"
    )


def test_an_image_without_a_label_is_not_called_wrong(few: ImageData, tmp_path: Path) -> None:
    few.test.labels = torch.full_like(few.test.labels, -1)
    study = Study(few, build("small_cnn", 10, 32), torch.tensor([0]), {}, tmp_path)
    assert Gallery(study, {}, torch.tensor([3]), {}, "").captions() == [few.classes[3]]


def test_images_are_shown_as_they_were(few: ImageData) -> None:
    images = normalised(few, torch.arange(4))
    shown = pixels(few, images)
    assert shown.shape == (4, 32, 32, 3)
    mean, std = torch.tensor(few.mean), torch.tensor(few.std)
    torch.testing.assert_close((shown - mean) / std, images.permute(0, 2, 3, 1))
