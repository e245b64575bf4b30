from __future__ import annotations

import csv
import json
import math
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
from recipes.label_free_limits.following import Following
from recipes.label_free_limits.study import LimitsRun, LimitsStudy
from recipes.label_free_limits.training import step_of, weight_files
from recipes.shared.data.labelled_images import ImageData, TrainingPlan, assemble
from recipes.shared.training.beside import ACCURACY

ROOT = Path(__file__).parents[3]
QUICK = ["--max-epochs", "4", "--evaluations", "6", "--num-images", "8", "--probe-images", "20",
         "--known-images", "24", "--source-images", "20", "--seeds", "0", "--severities", "1", "5",
         "--image-size", "16", "--accelerator", "cpu", "--devices", "1"]  # fmt: skip
# Those of which another path through the code makes the training, the images or the looks.
REGIMES = ["clean", "label_noise/small_cnn_bn", "asymmetric_noise", "unbalanced", "constant_rate",
           "shifted", "fine_tuning", "small_set", "corruptions", "other_corruptions"]  # fmt: skip


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


def run(output: Path, *more: str) -> LimitsStudy | None:
    return main([*QUICK, "--output", str(output), *more])


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recipes.shared.arguments.load", lambda *args, **kwargs: coloured())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[LimitsStudy, Path]:
    """All kinds of regimes once."""
    output = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recipes.shared.arguments.load", lambda *args, **kwargs: coloured())
        found = run(output, "--regimes", *REGIMES, "--normalized-images", "1")
    assert found is not None
    return found, output / "label_free_limits" / "colours"


def first(study: LimitsStudy, regime: str) -> LimitsRun:
    return next(runs[0] for group, runs in study.runs.items() if group.regime == regime)


def test_all_regimes_and_conditions_are_there(study: tuple[LimitsStudy, Path]) -> None:
    found, _ = study
    assert [g.regime for g in found.runs] == [text.partition("/")[0] for text in REGIMES]
    assert [g.network for g in found.runs][:2] == ["small_cnn", "small_cnn_bn"]
    # 64 training images are 4 batches, so that 4 epochs are 16 steps.
    assert first(found, "clean").column("step")[0] == 0
    assert first(found, "clean").column("step")[-1] == 16
    for name, count in (("corruptions", 4), ("other_corruptions", 6)):
        points = first(found, name).points
        assert points[0]["corruption"] == "none"
        assert [p["severity"] for p in points] == [0, *[1, 5] * count]
        assert len({p["corruption"] for p in points}) == count + 1


def test_every_signal_has_a_value_at_the_end_of_a_training(study: tuple[LimitsStudy, Path]) -> None:
    found, _ = study
    for group, runs in found.runs.items():
        if group.is_training:
            # An image that no order changes has no share of what is possible.
            for signal in (s for s in found.signals if "normalized" not in s.name):
                assert math.isfinite(runs[0].column(signal.name)[-1]), (group.name, signal.name)


def test_without_corruption_the_numbers_are_those_at_the_end_of_the_training(
    study: tuple[LimitsStudy, Path],
) -> None:
    clean, corrupted = (first(study[0], name).points for name in ("clean", "corruptions"))
    of_training = {"step", "stability", "stability_mi"}
    names = {signal.name for signal in study[0].signals} - of_training | {ACCURACY}
    assert {n: corrupted[0][n] for n in names} == pytest.approx(
        {n: clean[-1][n] for n in names}, abs=1e-12, nan_ok=True
    )


def test_a_shift_changes_the_test_images_alone(study: tuple[LimitsStudy, Path]) -> None:
    found, folder = study
    assert not (folder / "small_cnn" / "shifted" / "seed_0" / "weights").exists()
    shifted = first(found, "shifted")
    weights = weight_files(folder / "small_cnn" / "label_noise" / "seed_0")
    assert shifted.column("step")[-1] == step_of(weights[-1])


def test_fine_tuning_starts_from_the_network_of_the_clean_training(
    study: tuple[LimitsStudy, Path],
) -> None:
    folder = study[1] / "small_cnn"
    before = torch.load(weight_files(folder / "clean" / "seed_0")[-1])
    start = torch.load(weight_files(folder / "fine_tuning" / "seed_0")[0])
    assert all(torch.equal(before[name], start[name]) for name in before)


def test_files_hold_what_the_study_says(study: tuple[LimitsStudy, Path]) -> None:
    found, folder = study
    with (folder / "limits.csv").open(newline="") as file:
        rows = {(row["regime"], row["signal"]): row for row in csv.DictReader(file)}
    assert len(rows) == len(REGIMES) * len(found.signals)
    clean = first(found, "clean")
    by_hand = Following.of(clean.column("lrp"), clean.column(ACCURACY))
    assert float(rows["clean", "lrp"]["pearson"]) == pytest.approx(by_hand.pearson, nan_ok=True)
    assert rows["corruptions", "lrp"]["late_spearman"] == "nan"
    with (folder / "points.csv").open(newline="") as file:
        points = list(csv.DictReader(file))
    assert len(points) == sum(len(runs[0].points) for runs in found.runs.values())
    assert points[-1]["corruption"] == "poor colours"
    for name in ("figure.png", "correlations.png"):
        assert (folder / name).stat().st_size > 10_000


def test_the_report_names_all_that_was_compared(study: tuple[LimitsStudy, Path]) -> None:
    found, folder = study
    report = (folder / "report.md").read_text()
    assert f"But {len(found.signals)} signals are compared" in report
    assert all(f"`{signal.name}`" in report for signal in found.signals)
    assert all(signal.definition in report for signal in found.signals)
    assert all(group.title.capitalize() in report for group in found.runs)
    assert "python -m recipes.label_free_limits --max-epochs 4" in report
    # Each criterion of the regimes that ran is told of, whether met or not.
    assert report.count("at least 0.8") == 2
    assert report.count("at most 0.02") == 1


def test_given_again_it_trains_nothing_and_reports_the_same(
    study: tuple[LimitsStudy, Path], colours: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = study[1]
    monkeypatch.setattr("recipes.label_free_limits.runs.train_and_keep", _refuse)
    monkeypatch.setattr("recipes.label_free_limits.looks.answers_of", _refuse)
    monkeypatch.setattr("recipes.label_free_limits.references.fitted", _refuse)
    before = (folder / "limits.csv").read_text()
    run(folder.parents[1], "--regimes", *REGIMES, "--normalized-images", "1")
    assert (folder / "limits.csv").read_text() == before


def _refuse(*args: Any) -> Any:
    raise AssertionError("this run was finished")


def test_other_settings_do_not_mix(study: tuple[LimitsStudy, Path], colours: None) -> None:
    output = study[1].parents[1]
    with pytest.raises(ValueError, match="num_images was 8, now 9"):
        run(output, "--regimes", "clean", "--normalized-images", "1", "--num-images", "9")
    # Of a training alone only its own settings count.
    assert run(output, "--regimes", "clean", "--num-images", "9", "--train-only") is None
    with pytest.raises(ValueError, match="source_images was 20, now 10"):
        run(output, "--regimes", "clean", "--source-images", "10", "--train-only")


def test_an_interrupted_training_goes_on_from_its_last_epoch(
    tmp_path: Path, study: tuple[LimitsStudy, Path], colours: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt = Interrupt()
    monkeypatch.setattr(
        "recipes.shared.training.classifier.ImageClassifier.on_train_epoch_start", interrupt
    )
    with pytest.raises(RuntimeError, match="power cut"):
        run(tmp_path, "--regimes", "clean", "--train-only")
    folder = tmp_path / "label_free_limits" / "colours" / "small_cnn" / "clean" / "seed_0"
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["devices"] == "1"
    assert "num_images" in settings["regime"]
    assert not (folder / "points.csv").exists()
    run(tmp_path, "--regimes", "clean", "--train-only")
    assert interrupt.epochs == [0, 1, 2, 2, 3]
    whole = weight_files(study[1] / "small_cnn" / "clean" / "seed_0")
    cut = weight_files(folder)
    assert [file.name for file in cut] == [file.name for file in whole]
    one, other = (torch.load(files[-1]) for files in (whole, cut))
    assert all(torch.equal(one[name], other[name]) for name in one)


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
    arguments = ["--image-folder", str(tmp_path / "colours"), "--max-epochs", "1",
                 "--evaluations", "6", "--num-images", "72", "--source-images", "30", "--seeds",
                 "0", "--severities", "3", "--image-size", "16", "--accelerator", "cpu",
                 "--regimes", "corruptions"]  # fmt: skip
    folder = Path("label_free_limits", "colours")
    one, two = tmp_path / "one", tmp_path / "two"
    launch([*arguments, "--devices", "1", "--output", str(one)])
    # The second command has the trained network of the first.
    shutil.copytree(one, two, ignore=shutil.ignore_patterns("corruptions", "references"))
    settings = two / folder / "small_cnn" / "clean" / "seed_0" / "settings.json"
    settings.write_text(settings.read_text().replace('"devices": "1"', '"devices": "2"'))
    launch([*arguments, "--devices", "2", "--strategy", "ddp", "--output", str(two)])
    points = []
    for output in (one, two):
        with (output / folder / "points.csv").open(newline="") as file:
            points += [[_numbers(row) for row in csv.DictReader(file)]]
    assert len(points[0]) == 5
    for ours, theirs in zip(*points, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5, nan_ok=True)


def _numbers(row: dict[str, str]) -> dict[str, float]:
    texts = ("regime", "network", "corruption")
    return {key: float(value) for key, value in row.items() if key not in texts}


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


def test_an_unknown_regime_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--regimes", "clean", "noise"])
    assert "'noise' is no regime of clean, label_noise" in capsys.readouterr().err
