"""A table in a file that grows by a row at a time, and is gone on with after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path


class Table:
    """Rows of a Markdown table, by what stands in their first column.

    Args:
        path: where it is kept; rows that stand there already are kept.
        head: the text above the table.
        columns: what is measured; those of `numbers` are set to the right.
        numbers: names of columns.
        order: what may stand in the first column, in the order of the rows.
        summary: makes a paragraph below the head from all rows.

    Raises:
        ValueError: if the file has another head or other columns, as from other versions.
    """

    def __init__(
        self,
        path: Path,
        head: str,
        columns: Sequence[str],
        numbers: frozenset[str],
        order: Sequence[str],
        summary: Callable[[list[list[str]]], str],
    ) -> None:
        self.path = path
        rules = ["---:" if column in numbers else "---" for column in columns]
        self._title = f"| {' | '.join(columns)} |\n|{'|'.join(rules)}|\n"
        self._head = head
        self._order = order
        self._summary = summary
        self.rows = self._rows_of_file() if path.exists() else {}

    def put(self, cells: Sequence[str]) -> None:
        """Add a row or replace it, and write the file."""
        self.rows[cells[0]] = [cell.replace("|", "/").replace("\n", " ") for cell in cells]
        rows = [self.rows[name] for name in self._order if name in self.rows]
        lines = "".join(f"| {' | '.join(row)} |\n" for row in rows)
        text = f"{self._head}\n{self._summary(rows)}{self._title}{lines}"
        # First beside it, so that an interruption leaves the one or the other.
        beside = self.path.with_suffix(".part")
        beside.write_text(text)
        beside.replace(self.path)

    def _rows_of_file(self) -> dict[str, list[str]]:
        text = self.path.read_text()
        head, title, rows = text.partition(self._title)
        if not title or not head.startswith(self._head):
            raise ValueError(
                f"{self.path} was made with other versions, or with other columns: give --anew to "
                "measure every row again, or --output for another file"
            )
        cells = [line[2:-2].split(" | ") for line in rows.splitlines()]
        return {row[0]: row for row in cells}
