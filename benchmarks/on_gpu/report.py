"""What was found, kept in `gpu.json` and `gpu.md` from the first row on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from recipes.shared.reporting.markdown import markdown_table

Cell: TypeAlias = "str | int | float"
NOT_HERE = "not on this device"


@dataclass
class Table:
    """Rows under a header.

    Attributes:
        title: what it shows.
        header: names of the columns.
        note: what a reader must know beside it.
        rows: cells, as many as there are columns.
    """

    title: str
    header: Sequence[str]
    note: str = ""
    rows: list[list[Cell]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        rows = [dict(zip(self.header, row, strict=True)) for row in self.rows]
        return {"title": self.title, "note": self.note, "rows": rows}

    def __str__(self) -> str:
        rows = [[text_of(cell) for cell in row] for row in self.rows]
        note = f"{self.note}\n\n" if self.note else ""
        return f"**{self.title}**\n\n{note}{markdown_table(self.header, rows)}"


@dataclass
class Part:
    """One of the four parts.

    Attributes:
        title: its heading.
        state: how far it got.
        seconds: how long it took.
        tables: what it found.
    """

    title: str
    state: str = "not begun"
    seconds: float = 0.0
    tables: list[Table] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        tables = [table.as_dict() for table in self.tables]
        return {"state": self.state, "seconds": round(self.seconds, 1), "tables": tables}

    def __str__(self) -> str:
        head = f"## {self.title}\n\n{self.state.capitalize()} after {self.seconds:.0f} s."
        return "\n\n".join([head, *map(str, self.tables)])


@dataclass
class Report:
    """All parts, and on what they were measured.

    Attributes:
        folder: where the two files go.
        facts: card, driver, versions, date, commit, command.
        parts: by name.
        note: what a reader must know about all of it.
    """

    folder: Path
    facts: Mapping[str, str]
    parts: dict[str, Part]
    note: str = ""

    def save(self) -> None:
        """Write both files; whoever reads them meanwhile sees the ones before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {
            "facts": dict(self.facts),
            "note": self.note,
            "parts": {name: part.as_dict() for name, part in self.parts.items()},
        }
        self._replace("gpu.json", json.dumps(content, indent=1) + "\n")
        self._replace("gpu.md", str(self))

    def __str__(self) -> str:
        facts = markdown_table(["what", "which"], list(self.facts.items()))
        parts = "\n\n".join(map(str, self.parts.values()))
        note = f"{self.note}\n\n" if self.note else ""
        return f"# On a GPU\n\n{note}{facts}\n\n{parts}\n"

    def _replace(self, name: str, text: str) -> None:
        unfinished = self.folder / f".{name}.{os.getpid()}"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(self.folder / name)


def text_of(cell: Cell) -> str:
    """A cell for people: numbers to three digits, and no line breaks.

    Example:
        >>> text_of(1234.5), text_of(0.98765), text_of(7), text_of("a | b")
        ('1,234', '0.988', '7', 'a / b')
    """
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else " ".join(cell.replace("|", "/").split())
