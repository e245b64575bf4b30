from __future__ import annotations

from pathlib import Path

import pytest

from recipes.shared.reporting.run_folder import RunFolder

POINTS = [{"step": 0.0, "aopc/lrp": -0.001}, {"step": 10.0, "aopc/lrp": 1 / 3}]


def test_points_come_back_as_they_were(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", {"steps": "4"})
    assert folder.read_points() is None
    folder.begin()
    assert folder.read_points() is None
    folder.write_points(POINTS)
    assert RunFolder(tmp_path / "run", {"steps": "4"}).read_points() == POINTS


def test_what_was_written_in_part_does_not_count(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {})
    folder.begin()
    with pytest.raises(ValueError, match="fields not in fieldnames"):
        folder.write_points([{"step": 0.0}, {"another": 1.0}])
    assert folder.read_points() is None


def test_settings_are_written_once_and_whole(tmp_path: Path) -> None:
    RunFolder(tmp_path, {"steps": "4"}).begin()
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]
    before = (tmp_path / "settings.json").read_text()
    RunFolder(tmp_path, {"steps": "8"}).begin()
    assert (tmp_path / "settings.json").read_text() == before


def test_other_settings_are_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {"steps": "4", "seed": "0"})
    folder.begin()
    with pytest.raises(
        ValueError, match=r"other settings \(new was None, now 1; steps was 4, now 8"
    ):
        RunFolder(tmp_path, {"steps": "8", "seed": "0", "new": "1"}).read_points()
