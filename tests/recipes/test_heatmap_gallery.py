from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("matplotlib")

from recipes import datasets
from recipes.heatmap_gallery import images_of_different_classes, main, pixels


def test_picture_is_drawn_and_weights_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = datasets.digits(train_size=64 * 3, test_size=60)
    monkeypatch.setattr("recipes.arguments.load", lambda *args, **kwargs: few)
    arguments = ["--max-epochs", "1", "--num-images", "3", "--accelerator", "cpu",
                 "--heatmaps", "lrp", "deep_taylor", "sensitivity_l2",
                 "--weights", str(tmp_path / "weights.pt")]  # fmt: skip
    first = main([*arguments, "--output", str(tmp_path / "a" / "first.png")])
    monkeypatch.setattr("pytorch_lightning.Trainer.fit", lambda *args: pytest.fail("trained again"))
    second = main([*arguments, "--output", str(tmp_path / "second.png")])
    assert first.read_bytes() == second.read_bytes()


def test_images_are_of_different_classes_and_shown_as_they_were() -> None:
    data = datasets.digits(train_size=10, test_size=60)
    images, labels = images_of_different_classes(data, 4)
    assert labels == [0, 1, 2, 3]
    shown = pixels(data, images)
    assert shown.shape == (4, 32, 32, 3)
    mean, std = torch.tensor(data.mean), torch.tensor(data.std)
    torch.testing.assert_close((shown - mean) / std, images.permute(0, 2, 3, 1))
