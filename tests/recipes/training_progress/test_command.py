from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torchvision
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from aopc_monitor.monitor.look import Look
from recipes.shared.data.datasets import digits
from recipes.shared.data.labelled_images import ImageData
from recipes.shared.training.beside import LabelFreeRivals
from recipes.shared.training.classifier import ImageClassifier
from recipes.training_progress.__main__ import main, parse_arguments
from recipes.training_progress.report import Run

ROOT = Path(__file__).parents[3]
QUICK = ["--max-epochs", "1", "--evaluations", "4", "--num-images", "16", "--steps", "3",
         "--heatmaps", "lrp", "--source-images", "50",
         "--accelerator", "cpu", "--devices", "1"]  # fmt: skip


def check_outputs(folder: Path) -> None:
    """Of a study of one network and one seed."""
    names = {path.name for path in folder.iterdir()}
    assert {"points.csv", "figure.png", "report.md"} <= names
    folder = folder / "small_cnn" / "seed_0"
    events = EventAccumulator(str(folder)).Reload()
    # Accuracy and AOPC stand at the same x.
    steps = [event.step for event in events.Scalars("aopc/lrp")]
    assert [event.step for event in events.Scalars("accuracy/test")] == steps


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of dark and of bright noise."""
    root, generator = tmp_path_factory.mktemp("data") / "images", np.random.default_rng(0)
    for split, count in (("train", 128 * 5), ("test", 20)):
        for label in (0, 1):
            folder = root / split / str(label)
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 128, (32, 32, 3)) + 120 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return root


def noting(asked: list[bool], measured: Callable[..., Any]) -> Callable[..., Any]:
    """The same, which notes whether figures were wanted."""

    def noted(look: Look, trainer: pl.Trainer, pl_module: Any, lerf: bool) -> Any:
        asked.append(lerf)
        return measured(look, trainer, pl_module, lerf)

    return noted


def test_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = digits(train_size=64 * 30 + 50, test_size=100)
    monkeypatch.setattr("recipes.shared.arguments.load", lambda *args, **kwargs: few)
    measured: list[bool] = []
    monkeypatch.setattr(Look, "measured", noting(measured, Look.measured))
    (run,) = main([*QUICK, "--output", str(tmp_path)]).runs
    # Each look is made once: with the least relevant first where figures show that.
    assert measured == [True, True, False, True]
    # 30 batches in one epoch, less the images held out: half of them is the first step.
    assert run.column("step") == [0, 15, 21, 30]
    assert {"rivals/negative_entropy", "rivals/atc_confidence"} <= set(run.points[-1])
    check_outputs(tmp_path / "training_progress" / "digits-on-clutter")
    printed = capsys.readouterr().out
    assert f"tensorboard --logdir {tmp_path}" in printed
    assert "correlation with test accuracy over 4 evaluations" in printed


def test_fine_tuning_some_of_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = digits(train_size=500, test_size=100)
    monkeypatch.setattr("recipes.shared.arguments.load", lambda *args, **kwargs: few)
    given = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 1000))
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: given)
    wanted = [
        "--network",
        "resnet18",
        "--fine-tune",
        "--train-images",
        "242",
        "--test-images",
        "60",
    ]
    study = main([*QUICK, *wanted, "--output", str(tmp_path)])
    assert study.title == "digits on clutter, fine-tuned"
    # 192 images are left of 242, six batches of 32.
    assert study.runs[0].column("step")[-1] == 6
    # Accuracy is a share of the 60 test images, and that of a network of ten classes.
    share = study.runs[0].points[0]["accuracy/test"] * 60
    assert share == pytest.approx(round(share), abs=1e-6)
    assert isinstance(given[3], nn.Linear)
    assert given[3].out_features == 10
    folder = tmp_path / "training_progress" / "digits-on-clutter-fine-tuned"
    assert (folder / "resnet18" / "seed_0" / "points.csv").exists()
    assert "fine-tuned" in (folder / "report.md").read_text()


def test_fine_tuning_needs_weights(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--networks", "resnet18", "small_cnn", "--fine-tune"])
    assert "--fine-tune: network 'small_cnn' is no classification" in capsys.readouterr().err
    assert parse_arguments(["--networks", "small_cnn"]).networks == ["small_cnn"]


@pytest.mark.full
def test_image_folder(images: Path, tmp_path: Path) -> None:
    study = main([*QUICK, "--image-folder", str(images), "--output", str(tmp_path)])
    assert study.title == "images"
    check_outputs(tmp_path / "training_progress" / "images")


@pytest.mark.full
def test_two_processes_write_one_report(images: Path, tmp_path: Path) -> None:
    """In a process of its own, since DDP starts the whole command once more."""
    command = [
        sys.executable, "-m", "recipes.training_progress", *QUICK[:-4], "--accelerator", "cpu",
        "--devices", "2", "--strategy", "ddp", "--output", str(tmp_path),
        "--image-folder", str(images),
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    check_outputs(tmp_path / "training_progress" / "images")
    assert done.stdout.count("correlation with test accuracy over 4 evaluations") == 1


@pytest.mark.full
def test_finished_runs_are_read_and_others_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = digits(train_size=64 * 6 + 50, test_size=20)
    monkeypatch.setattr("recipes.shared.arguments.load", lambda *args, **kwargs: few)
    arguments = [*QUICK, "--output", str(tmp_path), "--networks", "small_cnn", "small_resnet"]
    first = main([*arguments, "--seeds", "1"])
    trained: list[str] = []
    fit = pl.Trainer.fit

    def counted(self: pl.Trainer, model: ImageClassifier, *args: Any, **kwargs: Any) -> None:
        trained.append(model.hparams["network"])
        fit(self, model, *args, **kwargs)

    monkeypatch.setattr(pl.Trainer, "fit", counted)
    second = main([*arguments, "--seeds", "1", "2"])
    assert trained == ["small_cnn", "small_resnet"]
    assert [(run.network, run.seed) for run in second.runs] == [
        ("small_cnn", 1), ("small_cnn", 2), ("small_resnet", 1), ("small_resnet", 2)
    ]  # fmt: skip
    assert second.runs[0] == first.runs[0]
    assert second.runs[2] == first.runs[1]
    with pytest.raises(ValueError, match="num_images was 16, now 8"):
        main([*arguments, "--seeds", "1", "--num-images", "8"])


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageData, Run]:
    """Few images, and a training of two epochs on them that nothing cuts."""
    few = digits(train_size=64 * 10 + 50, test_size=20)
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recipes.shared.arguments.load", lambda *args, **kwargs: few)
        (run,) = main([*QUICK, "--max-epochs", "2", "--output", str(folder)]).runs
    return few, run


@pytest.mark.full
def test_an_interrupted_training_goes_on(
    uncut: tuple[ImageData, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, whole = uncut
    monkeypatch.setattr("recipes.shared.arguments.load", lambda *args, **kwargs: few)
    arguments = [*QUICK, "--max-epochs", "2", "--output"]

    def unplugged(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LabelFreeRivals, "on_train_end", unplugged)
        with pytest.raises(SystemExit):
            main([*arguments, str(tmp_path / "cut")])
    (resumed,) = main([*arguments, str(tmp_path / "cut")]).runs
    assert resumed.column("step") == whole.column("step")
    assert resumed.column("aopc/lrp") == whole.column("aopc/lrp")


@pytest.mark.full
def test_a_training_cut_between_epochs_goes_on_as_if_it_had_not_been(
    uncut: tuple[ImageData, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second epoch takes the images in the order in which it would have taken them."""
    few, whole = uncut
    monkeypatch.setattr("recipes.shared.arguments.load", lambda *args, **kwargs: few)
    arguments = [*QUICK, "--max-epochs", "2", "--output"]

    def unplugged(module: ImageClassifier) -> None:
        if module.current_epoch == 1:
            raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(ImageClassifier, "on_train_epoch_start", unplugged)
        with pytest.raises(RuntimeError, match="power cut"):
            main([*arguments, str(tmp_path / "cut")])
    (resumed,) = main([*arguments, str(tmp_path / "cut")]).runs
    assert resumed.column("step") == whole.column("step")
    assert resumed.points[-1]["aopc/lrp"] == whole.points[-1]["aopc/lrp"]
    assert resumed.points[-1]["rivals/confidence"] == whole.points[-1]["rivals/confidence"]


@pytest.mark.parametrize("images", [["--image-folder", "DIR"], ["--dataset", "cifar10"]])
def test_a_seed_of_digits_is_refused_for_photographs(
    images: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments([*images, "--seed", "0"])
    assert "--seed 0 is the seed of the drawn digits" in capsys.readouterr().err
    assert parse_arguments(images).seed == 0
    assert parse_arguments(["--seed", "3"]).seed == 3


def test_too_few_evaluations_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--evaluations", "2"])
    assert "--evaluations 2: a correlation needs at least 3" in capsys.readouterr().err


def test_unknown_data_set_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--dataset", "mnist"])
    assert "'digits', 'cifar10'" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.cifar10
def test_aopc_follows_accuracy_on_cifar10(tmp_path: Path) -> None:
    """About ten minutes on two cores."""
    folder = os.environ.get("AOPC_CIFAR10")
    if folder is None:
        pytest.skip("AOPC_CIFAR10 does not name an unpacked train/ + test/ tree of CIFAR-10")
    (run,) = main(
        ["--image-folder", folder, "--num-images", "256", "--evaluations", "25",
         "--heatmaps", "lrp", "--output", str(tmp_path)]
    ).runs  # fmt: skip
    pearson, spearman = run.correlations("aopc/lrp")
    last = run.points[-1]
    assert len(run.points) >= 20
    assert pearson >= 0.9
    assert spearman >= 0.9
    assert last["aopc/lrp_gain"] / last["aopc/lrp_gain_sem"] > 5
