from __future__ import annotations

import csv
from pathlib import Path

import pytest

from recipes.shared.reporting.markdown import markdown_table, write_csv


def test_rows_of_another_length_are_named() -> None:
    with pytest.raises(ValueError, match=r"a row of 1 cells under a header of 2: \['lrp'\]"):
        markdown_table(["heatmap", "AOPC"], [["lrp"]])


def test_a_table_without_rows_has_its_header() -> None:
    assert markdown_table(["a"], []).splitlines() == ["| a   |", "|:----|"]


def test_csv_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "points.csv"
    write_csv(path, [{"name": "a, b", "value": 1}, {"name": "c", "value": 2}])
    with path.open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"name": "a, b", "value": "1"},
            {"name": "c", "value": "2"},
        ]


def test_bad_rows_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rows is empty"):
        write_csv(tmp_path / "points.csv", [])
    with pytest.raises(ValueError, match="other"):
        write_csv(tmp_path / "points.csv", [{"name": 1}, {"other": 2}])
