from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from recipes.many_labels.__main__ import main
from recipes.many_labels.training import ExactMatch
from recipes.shared.data.many_digits import many_digits

QUICK = ["--max-epochs", "1", "--train-images", "640", "--test-images", "60", "--evaluations", "4",
         "--num-images", "12", "--steps", "3", "--sampled-steps", "3", "--heatmaps", "lrp",
         "--accelerator", "cpu", "--devices", "1"]  # fmt: skip


def test_images_hold_one_to_three_digits() -> None:
    data = many_digits(train_size=200, test_size=50)
    images, labels = data.train.tensors
    assert images.shape == (200, 3, 48, 48)
    assert set(labels.sum(dim=1).tolist()) == {1.0, 2.0, 3.0}
    torch.testing.assert_close(images.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    again = many_digits(train_size=200, test_size=50)
    assert torch.equal(again.test.tensors[0], data.test.tensors[0])
    other = many_digits(seed=1, train_size=200, test_size=50)
    assert not torch.equal(other.test.tensors[1], data.test.tensors[1])


def test_command_and_its_second_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = main([*QUICK, "--output", str(tmp_path)])
    assert found.run.column("step") == [0, 5, 7, 10]
    last = found.run.points[-1]
    assert {"aopc/lrp", "aopc/lrp_gain", "aopc/random", "aopc/confidence", "accuracy/test",
            "label_accuracy/test", "rivals/confidence"} <= set(last)  # fmt: skip
    folder = tmp_path / "many_labels"
    assert {"report.md", "points.csv", "figure.png"} <= {path.name for path in folder.iterdir()}
    printed = capsys.readouterr().out
    assert "explained is all that is predicted, each class by itself" in printed
    assert "correlation with exact-match accuracy over 4 evaluations" in printed
    with (folder / "points.csv").open(newline="") as lines:
        assert [float(row["step"]) for row in csv.DictReader(lines)] == [0, 5, 7, 10]
    monkeypatch.setattr(ExactMatch, "point", None)  # what is finished is not trained again
    assert main([*QUICK, "--output", str(tmp_path)]).run.points == found.run.points


def test_exact_match_is_counted_over_all_labels() -> None:
    from recipes.many_labels.training import _of_images

    probabilities = torch.tensor([[0.9, 0.6, 0.1], [0.2, 0.4, 0.3], [0.7, 0.1, 0.1]])
    labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    exact, share, confidence = _of_images(probabilities, labels)
    assert exact.tolist() == [1.0, 0.0, 1.0]
    assert share.tolist() == pytest.approx([1.0, 2 / 3, 1.0])
    assert confidence.tolist() == pytest.approx([0.75, 0.4, 0.7])


def test_too_few_evaluations_are_refused(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main(["--evaluations", "2"])
    assert "a correlation needs at least 3" in capsys.readouterr().err
