"""Tables for people and for programs: Markdown and CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from aopc_monitor import MeanAndError


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown, its columns padded so that it can be read as text too.

    Columns of numbers stand to the right.

    Args:
        header: names of the columns.
        rows: cells, as many per row as there are columns; they are shown by `str`.

    Raises:
        ValueError: if a row has another number of cells than the header.

    Example:
        >>> print(markdown_table(["heatmap", "AOPC"], [["lrp", "0.441"], ["random", "0.38"]]))
        | heatmap | AOPC  |
        |:--------|------:|
        | lrp     | 0.441 |
        | random  |  0.38 |
    """
    texts = [[str(cell) for cell in row] for row in rows]
    for row in texts:
        if len(row) != len(header):
            raise ValueError(
                f"rows holds a row of {len(row)} cells under a header of {len(header)}: {row}"
            )
    columns = list(zip(header, *texts, strict=True))
    widths = [max(3, *map(len, column)) for column in columns]
    numeric = [bool(texts) and all(map(_is_number, column[1:])) for column in columns]
    rules = ["-" * (width + 1) + ":" if n else ":" + "-" * (width + 1)
             for width, n in zip(widths, numeric, strict=True)]  # fmt: skip
    lines = [_line(header, widths, [False] * len(widths)), f"|{'|'.join(rules)}|"]
    return "\n".join([*lines, *(_line(row, widths, numeric) for row in texts)])


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    ]
    return f"| {' | '.join(padded)} |"


def _is_number(cell: str) -> bool:
    """Whether a cell is a number, alone or with its error; an empty cell speaks for nothing.

    Example:
        >>> [_is_number(cell) for cell in ("0.44", "-1.5 ± 0.2", "", "12,000", "lrp")]
        [True, True, True, True, False]
    """
    try:
        for part in cell.replace(",", "").split("±"):
            float(part or 0)
    except ValueError:
        return False
    return True


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows that have the same keys; the keys become the header. Makes the folder.

    Args:
        path: the file to write.
        rows: at least one.

    Raises:
        ValueError: if there is no row, or one has a key that the first has not.
    """
    if not rows:
        raise ValueError(f"rows is empty: there is nothing to write to {str(path)!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def z_text(estimate: MeanAndError) -> str:
    """What a table shows as z: nothing where there is none.

    Example:
        >>> z_text(MeanAndError(0.3, 0.1)), z_text(MeanAndError(0.0, 0.0))
        ('3.0', '')
    """
    return "" if estimate.z != estimate.z else f"{estimate.z:.1f}"
