from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from recipes.series_progress.__main__ import main, parse_arguments
from recipes.shared.data.labelled_images import TrainingPlan
from recipes.shared.data.labelled_tensors import TensorData
from recipes.shared.data.series import SeriesSet, assemble_series
from recipes.shared.training.beside import LabelFreeRivals

QUICK = ["--max-epochs", "2", "--evaluations", "3", "--num-series", "8", "--steps", "2",
         "--heatmaps", "lrp", "--num-shown", "2",
         "--accelerator", "cpu", "--devices", "1"]  # fmt: skip
SLOW_AND_FAST = SeriesSet("Waves", "none", {"a": "slow", "b": "fast"}, TrainingPlan(2, 8, 1e-2))


def waves() -> TensorData:
    """Slow and fast waves of two channels."""
    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> tuple[Any, list[str]]:
        phase = torch.rand(count, 2, 1, generator=generator)
        speed = 0.2 + 0.6 * (torch.arange(count) % 2)[:, None, None]
        series = (phase * 6 + speed * torch.arange(24)).sin()
        return series.double().numpy(), ["ab"[i % 2] for i in range(count)]

    return assemble_series(SLOW_AND_FAST, part(24), part(12))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    data = waves()
    monkeypatch.setattr("recipes.series_progress.__main__.load_series", lambda name: data)
    return lambda *more: main([*QUICK, "--output", str(tmp_path), *more])


def test_it_writes_a_report_with_figures_and_galleries(
    run: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (study,) = run("--networks", "conv1d", "lstm")
    assert [r.network for r in study.runs] == ["conv1d", "lstm"]
    assert study.runs[0].column("step") == [0, 3, 6]
    folder = tmp_path / "series_progress" / "waves-linear"
    report = (folder / "report.md").read_text()
    assert "24 training series and 12 test series of 2 channels and 24 steps" in report
    assert "atc" not in report
    for network in ("conv1d", "lstm"):
        for picture in ("figure.png", "gallery.png"):
            assert f"({network}/seed_0/{picture})" in report
            png = (folder / network / "seed_0" / picture).read_bytes()
            assert png.startswith(b"\x89PNG")
    rows = list(csv.DictReader((folder / "points.csv").open()))
    assert len(rows) == 6
    assert {"aopc/lrp", "aopc/random", "rivals/confidence", "accuracy/test"} <= set(rows[0])
    assert "correlation with test accuracy over 3 evaluations" in capsys.readouterr().out


def test_several_sets_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"gun_point": "Waves", "basic_motions": "Other waves"}
    monkeypatch.setattr(
        "recipes.series_progress.__main__.load_series",
        lambda name: replace(waves(), name=names[name]),
    )
    arguments = [*QUICK, "--networks", "conv1d", "lstm", "--output", str(tmp_path)]
    studies = main([*arguments, "--dataset", *names])
    assert [study.title for study in studies] == list(names.values())
    report = (tmp_path / "series_progress" / "report.md").read_text()
    rows = [line for line in report.splitlines() if line.startswith(("| Waves", "| Other"))]
    assert [row.split("|")[2].strip() for row in rows] == ["conv1d", "lstm"] * 2
    last = studies[1].runs[1].points[-1]
    assert f"{last['aopc/lrp_gain']:.3f} ± {last['aopc/lrp_gain_sem']:.3f}" in rows[3]
    assert f"| {last['accuracy/test']:.3f}" in rows[3].replace("|    ", "| ")
    assert rows[3] in capsys.readouterr().out


def test_finished_trainings_are_read(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = run("--networks", "conv1d")
    monkeypatch.setattr(pl.Trainer, "fit", None)
    assert run("--networks", "conv1d")[0].runs == first.runs
    with pytest.raises(ValueError, match="num_series was 8, now 4"):
        run("--networks", "conv1d", "--num-series", "4")


def test_an_interrupted_training_goes_on(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = ("--networks", "lstm", "--max-epochs", "10")
    whole = run(*many, "--output", str(tmp_path / "whole"))[0].runs[0]

    def unplugged(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LabelFreeRivals, "on_train_end", unplugged)
        with pytest.raises(SystemExit):
            run(*many)
    (resumed,) = run(*many)[0].runs
    assert resumed.column("step") == whole.column("step")
    assert resumed.column("aopc/lrp") == whole.column("aopc/lrp")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--evaluations", "2"], "--evaluations 2: a correlation needs at least 3"),
        (["--num-shown", "0"], "--num-shown 0: a gallery shows at least 1 series"),
    ],
)
def test_impossible_settings_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(arguments)
    assert message in capsys.readouterr().err
