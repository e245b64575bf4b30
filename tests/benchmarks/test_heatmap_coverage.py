"""The command that tries heatmaps on the networks of other libraries."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.heatmap_coverage import __main__ as command
from benchmarks.heatmap_coverage.family import COLUMNS, cells_of, failed, summary
from benchmarks.heatmap_coverage.guarded import NotMeasuredError, guarded
from benchmarks.heatmap_coverage.measured import METHODS, fingerprint
from benchmarks.heatmap_coverage.networks import Network, first_that_runs
from benchmarks.heatmap_coverage.table import Table

ROWS = {"timm": "mobilenetv3", "transformers": "ViTForImageClassification"}


@pytest.mark.parametrize("library", ROWS)
def test_a_row_of(library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(library, reason=f"these rows are about {library}'s networks")
    path = tmp_path / "table.md"
    arguments = ["--library", library, "--output", str(path), ROWS[library]]
    monkeypatch.setattr("sys.argv", ["heatmap_coverage", *arguments])
    command.main()
    row = dict(zip(COLUMNS, path.read_text().splitlines()[-1][2:-2].split(" | "), strict=True))
    assert row["family"] == ROWS[library]
    assert [row[method] for method in METHODS] == ["yes"] * len(METHODS)
    assert row["untouched"] == "yes"
    assert float(row["LRP error"]) < 1e-6
    assert float(row["left"]) < 1e-6
    assert "could be measured" in path.read_text()


def square(text: str) -> int:
    return int(text) ** 2


def too_much(text: str) -> int:
    return len(torch.ones(int(text) * 2**30, dtype=torch.uint8))


def forever(text: str) -> None:
    time.sleep(60)


def crash(text: str) -> None:
    import os

    os._exit(7)


def test_a_process_of_its_own() -> None:
    assert guarded(square, "3", seconds=60, gigabytes=8) == 9


@pytest.mark.parametrize(
    ("function", "reason"),
    [(square, "ValueError"), (too_much, "memory"), (forever, "more than"), (crash, "code 7")],
)
def test_failures_have_a_reason(function: object, reason: str) -> None:
    seconds = 1 if function is forever else 60
    argument = "100" if function is too_much else "no number"
    with pytest.raises(NotMeasuredError, match=reason):
        guarded(function, argument, seconds=seconds, gigabytes=2)


def table(path: Path, head: str = "# Title\n") -> Table:
    return Table(path, head, ("name", "value"), frozenset({"value"}), ["a", "b", "c"], str)


def test_a_table_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    table(path).put(["c", "3"])
    table(path).put(["a", ""])
    again = table(path)
    assert again.rows == {"a": ["a", ""], "c": ["c", "3"]}
    again.put(["c", "4"])
    assert path.read_text().splitlines()[-2:] == ["| a |  |", "| c | 4 |"]
    with pytest.raises(ValueError, match="--anew"):
        table(path, "# Title, another version\n")


class Leaky(nn.Module):
    """An operation without a rule, which loses relevance."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 10, 3)

    def forward(self, images: Tensor) -> Tensor:
        return torch.special.i0(self.layer(images)).mean(dim=(2, 3))


def test_losses_are_told() -> None:
    cells = cells_of(lambda: Network("leaky", Leaky().double().eval(), 8))
    row = dict(zip(COLUMNS, ["family", *cells], strict=True))
    assert row["lrp"] == "no: NoRuleWarning"
    assert row["left"].startswith("**")
    assert "no rule: " in row["remarks"]
    rows = [["family", *cells], failed("other", "it is large")]
    assert "Of 2 rows, 1 could be measured. All heatmaps work on 0" in summary(rows)


class Faint(nn.Module):
    """A linear operation whose outputs are not far above LRP's epsilon."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(10, 3))

    def forward(self, images: Tensor) -> Tensor:
        return functional.linear(1e-4 * images.amax(dim=(2, 3)), self.weight)


def test_what_the_stabiliser_alone_takes_is_told() -> None:
    cells = cells_of(lambda: Network("faint", Faint().double().eval(), 8))
    row = dict(zip(COLUMNS, ["family", *cells], strict=True))
    assert row["remarks"].startswith("by the stabiliser alone")


def test_a_single_changed_bit_is_seen() -> None:
    model = nn.BatchNorm2d(4)
    before = fingerprint(model)
    assert fingerprint(model) == before
    model.running_mean.data[2] += 1e-30
    assert fingerprint(model) != before


def test_sizes_are_tried_until_one_works() -> None:
    def build(size: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))

    assert first_that_runs("linear", (8, 16, 32), build).size == 16
    with pytest.raises(RuntimeError, match="8 x 8: RuntimeError"):
        first_that_runs("linear", (8,), build)
