"""The command as a whole, tiny and on a CPU: every table is there, however it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.on_gpu import __main__ as command
from benchmarks.on_gpu.report import NOT_HERE
from benchmarks.on_gpu.rows import Rows
from benchmarks.on_gpu.subjects import Scale

QUICK = ["--device", "cpu", "--quick", "--output"]


def found_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "gpu.json").read_text())
    return found


@pytest.mark.full
def test_quick_on_a_cpu(tmp_path: Path) -> None:
    assert command.main([*QUICK, str(tmp_path)]) == 0
    found, text = found_in(tmp_path), (tmp_path / "gpu.md").read_text()
    assert found["facts"]["card"] == "none"
    assert found["facts"]["torch"] == torch.__version__.split("+")[0]
    assert "the CPU is compared with itself. Sizes are tiny" in text
    assert list(found["parts"]) == ["right", "fast", "peers", "profile"]
    rows = []
    for part in found["parts"].values():
        assert part["state"] == "done"
        for table in part["tables"]:
            assert f"**{table['title']}**" in text
            assert table["rows"], table["title"]
            rows += table["rows"]
    said = [str(cell) for row in rows for cell in row.values()]
    assert not [cell for cell in said if cell.startswith(("failed", "left out", "not enough"))]
    assert said.count(NOT_HERE) >= 14
    tests = found["parts"]["right"]["tables"][0]["rows"]
    assert {row["outcome"] for row in tests} == {"passed"}
    assert len(tests) >= 10
    (waits,) = [t for t in found["parts"]["fast"]["tables"] if "Host waits" in t["title"]]
    assert [row["per chunk"] for row in waits["rows"]] == [0.0, 0.0]
    assert len(found["parts"]["profile"]["tables"][1]["rows"]) == 10


def one_part(work: Callable[[Rows, Scale], None]) -> dict[str, Any]:
    return {"fast": ("Fast", work, 1.0)}


def test_an_interrupted_run_leaves_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(rows: Rows, scale: Scale) -> None:
        table = rows.table("A table", ("what", "value"))
        rows.add(table, ("first",), lambda: [1.5])
        assert found_in(tmp_path)["parts"]["fast"]["tables"][0]["rows"] == [
            {"what": "first", "value": 1.5}
        ]
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "PARTS", one_part(interrupted))
    assert command.main([*QUICK, str(tmp_path)]) == 130
    part = found_in(tmp_path)["parts"]["fast"]
    assert part["state"] == "interrupted"
    assert part["tables"][0]["rows"] == [{"what": "first", "value": 1.5}]
    assert "first" in (tmp_path / "gpu.md").read_text()


def test_a_part_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(rows: Rows, scale: Scale) -> None:
        raise ValueError("no such network")

    monkeypatch.setattr(command, "PARTS", one_part(failing))
    command.main([*QUICK, str(tmp_path)])
    assert found_in(tmp_path)["parts"]["fast"]["state"] == "failed (ValueError: no such network)"


def test_the_two_files_are_replaced_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gpu.json", "gpu.md", "other.txt"):
        (tmp_path / name).write_text("old")
    monkeypatch.setattr(command, "PARTS", one_part(lambda rows, scale: None))
    command.main([*QUICK, str(tmp_path)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpu.json", "gpu.md", "other.txt"]
    assert (tmp_path / "other.txt").read_text() == "old"
    assert found_in(tmp_path)["parts"]["fast"]["state"] == "done"


def test_without_cuda_it_says_how_to_run_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command.main(["--output", str(tmp_path / "new")]) == 2
    assert "--device cpu --quick" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_an_output_that_is_a_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("kept")
    assert command.main([*QUICK, str(tmp_path / "file")]) == 2
    assert "is a file: give a folder" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "kept"
