from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recipes import datasets
from recipes.training_progress import main, parse_arguments

ROOT = Path(__file__).parent.parent.parent
QUICK = ["--max-epochs", "1", "--evaluations", "4", "--num-images", "16", "--steps", "3",
         "--heatmaps", "lrp", "--accelerator", "cpu", "--devices", "1"]  # fmt: skip


def check_outputs(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert {"points.csv", "figure.png", "table.txt"} <= names
    events = EventAccumulator(str(folder)).Reload()
    # Accuracy and AOPC stand at the same x.
    steps = [event.step for event in events.Scalars("aopc/lrp")]
    assert [event.step for event in events.Scalars("accuracy/test")] == steps


def test_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = datasets.digits(train_size=64 * 30, test_size=100)
    monkeypatch.setattr("recipes.arguments.load", lambda *args, **kwargs: few)
    report = main([*QUICK, "--output", str(tmp_path)])
    # 30 batches in one epoch: half of them is the first step of the schedule, 30 the last.
    assert report.column("step") == [0, 15, 21, 30]
    check_outputs(tmp_path / "training_progress" / "version_0")
    printed = capsys.readouterr().out
    assert f"tensorboard --logdir {tmp_path}" in printed
    assert "correlation with test accuracy over 4 evaluations" in printed


def test_image_folder(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for split, count in (("train", 128 * 11), ("test", 20)):
        for label in (0, 1):
            folder = tmp_path / "images" / split / str(label)
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 128, (32, 32, 3)) + 120 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    report = main([*QUICK, "--image-folder", str(tmp_path / "images"), "--output", str(tmp_path)])
    assert report.title == "images"
    check_outputs(tmp_path / "training_progress" / "version_0")


def test_two_processes_write_one_report(tmp_path: Path) -> None:
    """In a process of its own, since DDP starts the whole command once more."""
    command = [
        sys.executable, "-m", "recipes.training_progress", *QUICK[:-4], "--accelerator", "cpu",
        "--devices", "2", "--strategy", "ddp", "--output", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    check_outputs(tmp_path / "training_progress" / "version_0")
    assert done.stdout.count("correlation with test accuracy over 4 evaluations") == 1


def test_too_few_evaluations_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--evaluations", "2"])
    assert "--evaluations 2: a correlation needs at least 3" in capsys.readouterr().err


def test_unknown_data_set_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--dataset", "mnist"])
    assert "'digits', 'cifar10'" in capsys.readouterr().err


@pytest.mark.cifar10
def test_aopc_follows_accuracy_on_cifar10(tmp_path: Path) -> None:
    """About ten minutes on two cores."""
    folder = os.environ.get("AOPC_CIFAR10")
    if folder is None:
        pytest.skip("AOPC_CIFAR10 does not name an unpacked train/ + test/ tree of CIFAR-10")
    report = main(
        ["--image-folder", folder, "--num-images", "256", "--evaluations", "25",
         "--heatmaps", "lrp", "--output", str(tmp_path)]
    )  # fmt: skip
    pearson, spearman = report.correlations("aopc/lrp")
    last = report.points[-1]
    assert len(report.points) >= 20
    assert pearson >= 0.9
    assert spearman >= 0.9
    assert last["aopc/lrp_gain"] / last["aopc/lrp_gain_sem"] > 5
