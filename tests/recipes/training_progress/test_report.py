from __future__ import annotations

import csv
from pathlib import Path

import pytest

from recipes.training_progress.report import Run, Study

RIVALS = ("confidence", "negative_entropy", "atc_confidence", "atc_entropy")
POINTS = [
    {
        "step": step,
        "aopc/lrp": value, "aopc/lrp_sem": 0.01, "aopc/lrp_gain": value / 2,
        "aopc/lrp_gain_sem": 0.02, "aopc/random": value / 2, "aopc/random_sem": 0.01,
        "aopc/confidence": confidence, "aopc/confidence_sem": 0.01, "accuracy/test": accuracy,
        **{f"rivals/{name}": confidence for name in RIVALS},
    }
    for step, value, confidence, accuracy in (
        (0, 0.0, 0.2, 0.1), (10, 0.1, 0.1, 0.3), (100, 0.2, 0.4, 0.5),
    )
]  # fmt: skip
# Accuracy first falls.
OTHER = [{**point, "accuracy/test": a} for point, a in zip(POINTS, (0.3, 0.1, 0.5), strict=True)]


def rows_of(text: str) -> dict[str, list[str]]:
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_correlations() -> None:
    run = Run("small_cnn", 0, POINTS)
    assert run.correlations("aopc/lrp") == pytest.approx((1.0, 1.0))
    assert run.correlations("aopc/confidence")[1] == pytest.approx(0.5)


def test_one_run_has_errors_over_images_and_the_z_of_gains() -> None:
    rows = rows_of(Study("t", ["lrp"], [Run("small_cnn", 0, POINTS)]).text())
    assert rows["aopc/lrp"] == ["1.000", "1.000", "0.200 ± 0.010", ""]
    assert rows["aopc/lrp_gain"][-1] == "5.0"
    assert rows["rivals/atc_entropy"] == ["0.655", "0.500", "0.400", ""]
    assert rows["accuracy/test"] == ["", "", "0.500", ""]


def test_several_seeds_have_a_mean_and_a_range() -> None:
    study = Study("t", ["lrp"], [Run("small_cnn", 0, POINTS), Run("small_cnn", 1, OTHER)])
    assert rows_of(study.text())["aopc/lrp"][:2] == [
        "0.750 (0.500 to 1.000)", "0.750 (0.500 to 1.000)"
    ]  # fmt: skip


def test_what_is_undefined_is_empty() -> None:
    constant = [{**point, "aopc/lrp": 0.1} for point in POINTS]
    with pytest.warns(RuntimeWarning, match="constant"):
        rows = rows_of(Study("t", ["lrp"], [Run("small_cnn", 0, constant)]).text())
    assert rows["aopc/lrp"] == ["", "", "0.100 ± 0.010", ""]


def test_files(tmp_path: Path) -> None:
    runs = [Run(name, seed, POINTS) for name in ("small_cnn", "other") for seed in (0, 1)]
    Study("title", ["lrp"], runs).write(tmp_path, "python -m recipes.training_progress")
    rows = list(csv.DictReader((tmp_path / "points.csv").open()))
    assert len(rows) == 12
    assert [float(row["aopc/lrp"]) for row in rows[:3]] == [0.0, 0.1, 0.2]
    report = (tmp_path / "report.md").read_text()
    assert report.count("correlation with test accuracy over 3 evaluations, 2 seeds") == 2
    assert "python -m recipes.training_progress" in report
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
