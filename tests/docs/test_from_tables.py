"""A row of a table is on its page without another line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aopc_monitor import heatmaps
from aopc_monitor.heatmaps.rules.table import LINEAR_RULES

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_rows_of_sequences_dicts_and_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sphinx", reason="the site is built with sphinx: install .[docs]")
    monkeypatch.syspath_prepend(str(DOCS))
    from from_tables import rows_of  # type: ignore[import-not-found]

    assert rows_of("aopc_monitor.heatmaps.rules.table.LINEAR_RULES") == list(LINEAR_RULES)
    classes = rows_of("aopc_monitor.heatmaps.table.heatmap_classes")
    assert heatmaps.LRPEpsilon in classes
    assert len(classes) == len(set(classes))
    module = sys.modules["from_tables"]
    monkeypatch.setattr(module, "TABLE", {"a": heatmaps.LRP, "b": heatmaps.LRP}, raising=False)
    assert rows_of("from_tables.TABLE") == [heatmaps.LRP]
