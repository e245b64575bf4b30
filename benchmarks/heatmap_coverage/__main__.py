"""Which heatmaps work on whose networks, and how well LRP conserves relevance.

    python -m benchmarks.heatmap_coverage [--library torchvision|timm|transformers] [FAMILY ...]

writes `benchmarks/heatmap_coverage.md` for torchvision, and `heatmap_coverage_timm.md` and
`heatmap_coverage_transformers.md` beside it, a row as soon as it is measured: after an interruption
the same command goes on. With names, these rows are measured again. Each row is made by a process
of its own with one thread, so that one that crashes or takes too long is told in its row. Beside
other work on two cores, timm took 24 minutes and transformers 5; torchvision's largest models need
up to 20 GB of memory.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.heatmap_coverage.guarded import NotMeasuredError, guarded
from benchmarks.heatmap_coverage.libraries import LIBRARIES, Library
from benchmarks.heatmap_coverage.table import Table

FOLDER = Path(__file__).parent.parent


def main() -> None:
    """Measure and write the table."""
    arguments = _arguments()
    library = LIBRARIES[arguments.library]
    path = arguments.output or FOLDER / library.file
    families = library.families()
    unknown = [name for name in arguments.families if name not in families]
    if unknown:
        raise SystemExit(f"{library.name} has no {', '.join(unknown)}: {', '.join(families)}")
    if arguments.anew:
        path.unlink(missing_ok=True)
    table = Table(path, library.head(), library.columns, library.numbers, families, library.summary)
    for family in arguments.families or [name for name in families if name not in table.rows]:
        row = _row(library, family, arguments.seconds, arguments.gigabytes)
        print(" | ".join(row), flush=True)
        table.put(row)


def _row(library: Library, family: str, seconds: float, gigabytes: float) -> list[str]:
    try:
        cells = guarded(library.cells, family, seconds, gigabytes)
    except NotMeasuredError as failure:
        return library.failed(family, str(failure))
    return [family, *cells]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("families", nargs="*", help="rows to measure; those not yet there if none")
    parser.add_argument("--library", choices=LIBRARIES, default="torchvision")
    parser.add_argument("--output", type=Path, help="where the table goes; beside the others")
    parser.add_argument("--anew", action="store_true", help="begin with an empty table")
    parser.add_argument("--seconds", type=float, default=900, help="how long a row may take")
    parser.add_argument("--gigabytes", type=float, default=24, help="of memory, for a row")
    return parser.parse_args()


if __name__ == "__main__":
    main()
