"""The page on heatmaps says of each which kinds of input it is for, as the heatmaps do."""

from __future__ import annotations

import re
from pathlib import Path

from aopc_monitor import heatmaps
from aopc_monitor.perturbation.input_kinds import INPUT_KINDS

PAGE = Path(__file__).parent.parent.parent / "docs" / "heatmaps.md"


def rows() -> list[list[str]]:
    """The cells of the table under "Kinds of input", its head first."""
    section = PAGE.read_text().partition("## Kinds of input")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [table[0], *table[2:]]


def test_the_table_of_kinds_is_that_of_the_heatmaps() -> None:
    head, *found = rows()
    kinds = head[1:-1]
    assert set(kinds) <= {kind.name for kind in INPUT_KINDS}
    said = {name: row[1:-1] for row in found for name in re.findall(r"`(\w+)`", row[0])}
    assert set(said) == set(heatmaps.names())
    for name, cells in said.items():
        unsuited = getattr(heatmaps.get(name), "unsuited", {})
        assert cells == ["no" if kind in unsuited else "yes" for kind in kinds], name
