from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from recipes.label_free_limits.__main__ import main, parse_arguments
from recipes.label_free_limits.agreement import Agreement
from recipes.label_free_limits.study import CORRUPTED, LimitsStudy
from recipes.shared.data.labelled_images import ImageData, TrainingPlan, assemble
from recipes.shared.training.beside import ACCURACY

ROOT = Path(__file__).parents[3]
QUICK = ["--max-epochs", "4", "--evaluations", "6", "--num-images", "8", "--normalized-images", "1",
         "--source-images", "20", "--seeds", "0", "--heatmaps", "lrp", "--image-size", "16",
         "--accelerator", "cpu", "--devices", "1"]  # fmt: skip


def coloured(train: int = 84, test: int = 30) -> ImageData:
    """Noise that is brighter in the class's own channel."""
    generator = torch.Generator().manual_seed(0)

    def images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(count) % 3
        pixels = torch.randint(0, 150, (count, 3, 16, 16), generator=generator)
        pixels[torch.arange(count), labels] += 100
        return pixels.to(torch.uint8), labels

    plan = TrainingPlan(max_epochs=1, batch_size=16, learning_rate=5e-3)
    return assemble("colours", images(train), images(test), ("r", "g", "b"), plan)


def run(output: Path, *more: str) -> LimitsStudy:
    return main([*QUICK, "--output", str(output), *more])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[LimitsStudy, Path]:
    """All regimes once."""
    output = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recipes.shared.arguments.load", lambda *args, **kwargs: coloured())
        return run(output), output / "label_free_limits" / "colours" / "small_cnn"


def test_all_regimes_and_conditions_are_there(study: tuple[LimitsStudy, Path]) -> None:
    found, _ = study
    assert [r.regime for r in found.runs] == ["clean", "label_noise", "small_set", CORRUPTED]
    # 64 training images are 4 batches, so that 4 epochs are 16 steps.
    assert found.runs[0].column("step")[-1] == 16
    conditions = list(
        zip(found.runs[-1].column("corruption"), found.runs[-1].column("severity"), strict=True)
    )
    assert conditions == [(0, 0), *((kind, s) for kind in (1, 2, 3, 4) for s in (1, 2, 3, 4, 5))]


def test_without_corruption_the_numbers_are_those_at_the_end_of_the_training(
    study: tuple[LimitsStudy, Path],
) -> None:
    """The two are measured by other code, on the same images, noise and network."""
    clean, corrupted = study[0].runs[0].points[-1], study[0].runs[-1].points[0]
    shared = set(clean) & set(corrupted)
    assert {key for key in clean if key not in shared} == {"step"}
    assert {key: corrupted[key] for key in shared} == pytest.approx(
        {key: clean[key] for key in shared}, abs=1e-6, nan_ok=True
    )


def test_files_hold_what_the_study_says(study: tuple[LimitsStudy, Path]) -> None:
    found, folder = study
    with (folder / "limits.csv").open(newline="") as file:
        rows = {(row["regime"], row["signal"]): row for row in csv.DictReader(file)}
    assert len(rows) == 4 * len(found.signals)
    lrp = next(signal for signal in found.signals if signal.name == "lrp")
    by_hand = Agreement.of(found.runs[0].column("aopc/validation/lrp"),
                           found.runs[0].column(ACCURACY))  # fmt: skip
    assert float(rows["clean", "lrp"]["pearson"]) == pytest.approx(by_hand.pearson, nan_ok=True)
    assert rows[CORRUPTED, "lrp"]["late_spearman"] == "nan"
    with (folder / "points.csv").open(newline="") as file:
        points = list(csv.DictReader(file))
    assert len(points) == sum(len(r.points) for r in found.runs)
    assert points[-1]["corruption"] == "JPEG"
    assert float(points[-1]["signal/lrp"]) == lrp.of(found.runs[-1].points[-1])
    report = (folder / "report.md").read_text()
    assert f"But {len(found.signals)} signals are compared" in report
    assert all(f"`{signal.name}`" in report for signal in found.signals)
    assert all(signal.definition in report for signal in found.signals)
    assert "python -m recipes.label_free_limits --max-epochs 4" in report
    for name in ("figure.png", "correlations.png"):
        assert (folder / name).stat().st_size > 10_000


def test_given_again_it_trains_nothing_and_reports_the_same(
    study: tuple[LimitsStudy, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, folder = study
    monkeypatch.setattr("recipes.shared.arguments.load", lambda *args, **kwargs: coloured())
    for name in ("train_and_watch", "look_at_corrupted"):
        monkeypatch.setattr(f"recipes.label_free_limits.__main__.{name}", _refuse)
    before = (folder / "limits.csv").read_text()
    again = run(folder.parents[2])
    assert [r.column(ACCURACY) for r in again.runs] == [r.column(ACCURACY) for r in found.runs]
    assert (folder / "limits.csv").read_text() == before


def _refuse(*args: Any) -> Any:
    raise AssertionError("this run was finished")


def test_other_settings_do_not_mix(
    study: tuple[LimitsStudy, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recipes.shared.arguments.load", lambda *args, **kwargs: coloured())
    with pytest.raises(ValueError, match="num_images was 8, now 9"):
        run(study[1].parents[2], "--num-images", "9")


def test_an_interrupted_training_goes_on_from_its_last_epoch(
    tmp_path: Path, study: tuple[LimitsStudy, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recipes.shared.arguments.load", lambda *args, **kwargs: coloured())
    interrupt = Interrupt()
    monkeypatch.setattr(
        "recipes.shared.training.classifier.ImageClassifier.on_train_epoch_start", interrupt
    )
    with pytest.raises(RuntimeError, match="power cut"):
        run(tmp_path, "--regimes", "clean")
    folder = tmp_path / "label_free_limits" / "colours" / "small_cnn" / "clean" / "seed_0"
    settings = json.loads((folder / "settings.json").read_text())
    assert (settings["network"], settings["devices"]) == ("small_cnn", "1")
    assert "title='clean training'" in settings["regime"]
    assert not (folder / "points.csv").exists()
    resumed = run(tmp_path, "--regimes", "clean")
    assert interrupt.epochs == [0, 1, 2, 2, 3]
    for key in ("step", "aopc/validation/lrp"):
        assert resumed.runs[0].column(key) == study[0].runs[0].column(key)


class Interrupt:
    """Fails once, when the third epoch starts."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def __get__(self, module: Any, owner: Any) -> Any:
        return lambda: self(module)

    def __call__(self, module: Any) -> None:
        self.epochs.append(module.current_epoch)
        if self.epochs == [0, 1, 2]:
            raise RuntimeError("power cut")


@pytest.mark.long
def test_two_processes_find_what_one_finds_on_corrupted_images(tmp_path: Path) -> None:
    """In processes of their own, since DDP starts the whole command once more."""
    write_images(tmp_path / "colours")
    folder = Path("label_free_limits", "colours", "small_cnn")
    arguments = ["--image-folder", str(tmp_path / "colours"), "--max-epochs", "1",
                 "--evaluations", "6", "--num-images", "72", "--normalized-images", "2",
                 "--source-images", "30", "--seeds", "0", "--heatmaps", "lrp",
                 "--image-size", "16", "--accelerator", "cpu"]  # fmt: skip
    one = tmp_path / "one"
    launch([*arguments, "--regimes", "clean", "--devices", "1", "--output", str(one)])
    # The second command has the trained network of the first.
    shutil.copytree(one, tmp_path / "two")
    settings = tmp_path / "two" / folder / "clean" / "seed_0" / "settings.json"
    settings.write_text(settings.read_text().replace('"devices": "1"', '"devices": "2"'))
    for devices, output in (("1", one), ("2", tmp_path / "two")):
        more = ["--strategy", "ddp"] if devices == "2" else []
        launch([*arguments, "--regimes", "corruptions", "small_set", "--devices", devices, *more,
                "--output", str(output)])  # fmt: skip
    points = []
    for output in (one, tmp_path / "two"):
        with (output / folder / CORRUPTED / "seed_0" / "points.csv").open(newline="") as file:
            points += [[{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]]
        assert (output / folder / "report.md").exists()
    assert len(points[0]) == 21
    for ours, theirs in zip(*points, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5, nan_ok=True)


def launch(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "recipes.label_free_limits", *arguments], cwd=ROOT,
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def write_images(root: Path) -> None:
    data = coloured(train=384, test=40)
    for split, part in (("train", data.train), ("test", data.test)):
        for index, (image, label) in enumerate(zip(part.images, part.labels, strict=True)):
            folder = root / split / str(int(label))
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{index}.png")


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
        parse_arguments(["--evaluations", "5"])
    assert "at least 6 are needed" in capsys.readouterr().err
