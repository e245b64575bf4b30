"""Sphinx directive `from-table`: one entry for each row of a table of the package.

    .. from-table:: aopc_monitor.heatmaps.rules.table.LINEAR_RULES

documents the classes and functions of a sequence, of a dict's values, or of what a function without
arguments returns, in their order, under the module of `currentmodule`. So a new row of a table is
on its page without another line.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


def rows_of(path: str) -> list[Any]:
    """The classes and functions of a table, each once."""
    module, _, name = path.rpartition(".")
    table: Any = getattr(importlib.import_module(module), name)
    if inspect.isfunction(table):
        table = table()
    rows: Iterable[Any] = table.values() if isinstance(table, Mapping) else table
    return list(dict.fromkeys(rows))


class FromTable(SphinxDirective):
    """See the module's first lines."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The entries."""
        lines = []
        for row in rows_of(self.arguments[0]):
            kind = "autoclass" if inspect.isclass(row) else "autofunction"
            lines += [f".. {kind}:: {row.__name__}", ""]
        content = StringList(lines, source=self.arguments[0])
        return self._parsed(content)

    def _parsed(self, content: StringList) -> list[nodes.Node]:
        node = nodes.section()
        self.state.nested_parse(content, self.content_offset, node)
        return list(node.children)


def setup(app: Any) -> dict[str, bool]:
    """Let Sphinx know the directive."""
    app.add_directive("from-table", FromTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
