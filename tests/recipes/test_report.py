from __future__ import annotations

import csv
from pathlib import Path

import pytest

from recipes.report import Report

POINTS = [
    {
        "step": step,
        "aopc/lrp": value, "aopc/lrp_sem": 0.01, "aopc/lrp_gain": value / 2,
        "aopc/lrp_gain_sem": 0.02, "aopc/random": value / 2, "aopc/random_sem": 0.01,
        "aopc/confidence": confidence, "aopc/confidence_sem": 0.01, "accuracy/test": accuracy,
    }
    for step, value, confidence, accuracy in (
        (0, 0.0, 0.2, 0.1), (10, 0.1, 0.1, 0.3), (100, 0.2, 0.4, 0.5),
    )
]  # fmt: skip


def test_correlations() -> None:
    report = Report("title", ["lrp"], POINTS)
    assert report.correlations("aopc/lrp") == pytest.approx((1.0, 1.0))
    assert report.correlations("aopc/confidence")[1] == pytest.approx(0.5)


def test_table_names_every_signal_and_the_z_of_gains() -> None:
    rows = {
        line.split()[0]: line.split() for line in Report("t", ["lrp"], POINTS).table().split("\n")
    }
    assert rows["aopc/lrp"][1:] == ["1.000", "1.000", "0.200", "0.010"]
    assert rows["aopc/lrp_gain"][-1] == "5.0"
    assert {"aopc/random", "aopc/confidence", "accuracy/test"} <= set(rows)


def test_files(tmp_path: Path) -> None:
    report = Report("title", ["lrp"], POINTS)
    report.write_csv(tmp_path / "points.csv")
    report.write_figure(tmp_path / "figure.png")
    rows = list(csv.DictReader((tmp_path / "points.csv").open()))
    assert [float(row["aopc/lrp"]) for row in rows] == [0.0, 0.1, 0.2]
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
