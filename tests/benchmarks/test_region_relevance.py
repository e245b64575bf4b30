"""The benchmark prints what the guide quotes of it, here of few images and one epoch."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from recipes.shared.data.datasets import digits
from recipes.shared.heatmap_study import normalised

pytest.importorskip("skimage", reason="superpixels are scikit-image's")

from benchmarks import region_relevance

QUICK = ["--num-images", "20", "--max-epochs", "1", "--accelerator", "cpu", "--devices", "1"]


def test_mean_and_sum_are_compared_with_the_random_order(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    few = partial(digits, train_size=128, test_size=40)
    monkeypatch.setattr(region_relevance, "digits", few)
    region_relevance.main(QUICK)
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    header, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[0] for row in rows] == ["lrp", "sensitivity_l2", "constant"]
    # Under the mean a constant heatmap is the random order.
    assert rows[2][header.index("mean minus random")] == "0.000 ± 0.000"
    assert rows[2][header.index("sum minus random")] != "0.000 ± 0.000"
    assert "20 images" in printed
    assert "superpixels an image" in printed
    (weights,) = tmp_path.rglob("after_1_epochs.pt")
    assert weights.parent.name == "small_cnn_1_epochs_seed_0"


def test_superpixels_see_the_pixels_before_normalisation() -> None:
    data = digits(train_size=20, test_size=10)
    found = region_relevance.superpixels(normalised(data, torch.arange(4)), data)
    assert found.shape == (4, 32, 32)
    for segments in found:
        assert segments.unique().tolist() == list(range(int(segments.max()) + 1))
