"""The door's names come from the tables, for people and for type checkers."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from aopc_monitor import heatmaps
from aopc_monitor.heatmaps import table
from aopc_monitor.heatmaps.rules import table as rules_table


def test_every_row_of_the_tables_is_reached_through_the_door() -> None:
    for kind in [type(make()) for make in heatmaps.HEATMAPS.values()]:
        assert getattr(heatmaps, kind.__name__) is kind
        assert kind.__name__ in heatmaps.__all__
    for rule in rules_table.LINEAR_RULES:
        assert getattr(heatmaps, rule.__name__) is rule
        assert rule.__name__ in heatmaps.__all__


def test_no_name_of_the_door_is_missing_or_private() -> None:
    assert len(set(heatmaps.__all__)) == len(heatmaps.__all__)
    for name in heatmaps.__all__:
        assert not name.startswith("_")
        assert hasattr(heatmaps, name), name


@pytest.mark.parametrize("module", [heatmaps, table, rules_table], ids=lambda m: m.__name__)
def test_a_type_checker_sees_the_names(module: object) -> None:
    """It hands on what is imported `name as name`, by a star, or made in the module itself."""
    tree = ast.parse(Path(inspect.getsourcefile(module)).read_text(encoding="utf-8"))
    seen = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            starred = node.names[0].name == "*"
            seen |= set(_all_of(str(node.module)) if starred else ())
            seen |= {alias.name for alias in node.names if alias.asname == alias.name}
        elif isinstance(node, ast.AnnAssign):
            seen.add(node.target.id)
    assert set(module.__all__) - seen == set()


def _all_of(name: str) -> list[str]:
    known = {module.__name__: module for module in (table, rules_table)}
    return list(known[name].__all__)
