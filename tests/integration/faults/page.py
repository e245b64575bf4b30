"""The page docs/faults.md, written from what the tests found."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytorch_lightning as pl
import torch

from tests.integration.faults.checks import COULD_NOT, REFUSED, WITHOUT, differences
from tests.integration.faults.fault import COLUMNS, Fault
from tests.integration.faults.interruptions import INTERRUPTIONS
from tests.integration.faults.table import ENDURANCE, GROUPS
from tests.integration.faults.training import Seen

PAGE = Path(__file__).parents[3] / "docs" / "faults.md"
CANNOT_BE, NOT_RUN = "-", "not run yet"

INTRODUCTION = """\
# When something breaks inside an evaluation

A callback in a job that takes days must neither end the job nor change it, whatever breaks while it
looks at the network. In each row below something is broken on purpose in a short training with an
evaluation at every step, in one process and in two processes under DDP on the first, the second or
both of them, and what came of it is compared with the same training without the monitor. This page
is written by the tests in `tests/integration/faults`.

"Run ends" means that it ends as if nothing had happened. "Identical" means: all weights, buffers,
gradients and states of the optimizers, the modes of all submodules, the random generators of torch,
numpy and Python, all values that the training itself logged, and what `trainer.validate`, `test`
and `predict` returned are the same bit by bit, on every process. For each cell the tests also
demand that

- each failed evaluation is warned about once, on the first process, with the step, the text of the
  error, and the processes that it happened on;
- nothing that is NaN or infinite reaches a logger, other callbacks or the history;
- `aopc/failures` counts up and is logged;
- evaluations that do not fail give the usual values, unless a heatmap tampers with the model;
- all processes take the same decisions and hold the same history;
- after three failures in a row the monitor says so and is silent from there on ("then off").

A cell that starts with "NOT AS EXPECTED" does not hold all of that. A dash stands for what cannot
be: settings are the same on all processes.
"""

TITLES = {
    "in mid-training": "Breaks while the network trains",
    "from the start": "Is broken from the start, but may be better the next time",
    "not a failure": "Disturbs an evaluation, and is no failure",
    "loggers": "Loggers",
    "outside training": "Breaks outside a training",
    "mistakes": "Is refused before the first step",
    "under FSDP2": "Under FSDP2",
    "interruptions": "Interruptions and long runs",
}
TEXTS = {
    "from the start": "Data, memory and numbers say nothing against the settings of the monitor.",
    "outside training": "The results of the run are those without the monitor, and "
    "`aopc/failures` among them.",
    "mistakes": "Nothing is lost yet, and settings that cannot work now never will. The error says "
    "what to change.",
    "under FSDP2": "The same faults where FSDP2 spreads the network over both processes, under "
    "`ModelParallelStrategy`:\neach holds a part of every parameter, and waits for the other in "
    "every forward. What is compared is\nthe part of each process.",
    "interruptions": "Whoever ends a run does not wait for an evaluation: shown is how often the "
    "network or the heatmap was\ncalled afterwards. Both processes are signalled: Lightning "
    "broadcasts from within its handler of SIGTERM,\nso that a signal to one of them, or to both "
    "while one already waits for the other, lets a run hang until\nits process group times out, "
    "with or without a monitor.",
}


@dataclass(frozen=True)
class Row:
    """What came of a fault, by column, and under which versions."""

    versions: tuple[str, str]
    cells: Mapping[str, str] = field(default_factory=dict)


def current_versions() -> tuple[str, str]:
    return torch.__version__.split("+")[0], pl.__version__


def columns_of(group: str) -> dict[str, tuple[str, ...]]:
    """Where each fault of a group can happen."""
    if group == "interruptions":
        own = {one.name: one.columns for one in INTERRUPTIONS.values()}
        return {**own, ENDURANCE: ("one process",)}
    return {fault.name: fault.columns for fault in GROUPS[group]}


def summary(fault: Fault, seen: Sequence[Seen], without: Sequence[Seen]) -> str:
    """A cell: how the run ended, what it left behind, and what people were told."""
    pairs = list(zip(seen, without, strict=True))
    if fault.ends:
        name = seen[0].ended.partition(":")[0] or "nothing"
        parts = [f"raises {name}" + (" on both" if len(seen) > 1 else "")]
        if fault.leaves == "untrained":
            trained = any(
                list(differences(b.initial, a.trace.get("weights and buffers"), ""))
                for a, b in pairs
            )
            parts.append("weights CHANGED" if trained else "weights as they were")
        return ", ".join(parts)
    parts = ["run ends" if not any(one.ended for one in seen) else f"run raises {seen[0].ended}"]
    differs = any(list(differences(b.trace, a.trace, "")) for a, b in pairs)
    parts.append("differs" if differs else "identical")
    return ", ".join([*parts, *_told(seen)])


def _told(seen: Sequence[Seen]) -> list[str]:
    warnings = [text for one in seen for text in one.warnings]
    failures = [text for text in warnings if text.startswith(COULD_NOT)]
    refusals = sum(REFUSED in text for text in warnings)
    told = [
        _count(len(failures), "warning") + (", then off" if WITHOUT in "".join(failures) else "")
    ]
    return told + ([_count(refusals, "warning") + " of the logger"] if refusals else [])


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def merged(old: Mapping[str, Row], new: Mapping[str, Row]) -> dict[str, Row]:
    """New cells in the place of old ones; cells of other versions do not stay beside them."""
    rows = dict(old)
    for name, row in new.items():
        kept = rows[name].cells if name in rows and rows[name].versions == row.versions else {}
        rows[name] = replace(row, cells={**kept, **row.cells})
    return rows


def rows_of(text: str) -> dict[str, Row]:
    """The rows of a page, by the names of their faults."""
    rows = {}
    for line in re.findall(r"^\| (.+) \|$", text, flags=re.MULTILINE):
        name, *cells, torch_version, lightning_version = line.split(" | ")
        if name != "what breaks":
            known = {
                c: v for c, v in zip(COLUMNS, cells, strict=True) if v not in (CANNOT_BE, NOT_RUN)
            }
            rows[name] = Row((torch_version, lightning_version), known)
    return rows


def render(rows: Mapping[str, Row]) -> str:
    parts = [INTRODUCTION]
    for group, title in TITLES.items():
        lines = [f"## {title}", "", *([TEXTS[group], ""] if group in TEXTS else [])]
        lines.append(f"| what breaks | {' | '.join(COLUMNS)} | torch | Lightning |")
        lines.append("|" + "---|" * (len(COLUMNS) + 3))
        for name, columns in columns_of(group).items():
            row = rows.get(name, Row((CANNOT_BE, CANNOT_BE)))
            cells = [row.cells.get(c, NOT_RUN) if c in columns else CANNOT_BE for c in COLUMNS]
            lines.append(f"| {' | '.join([name, *cells, *row.versions])} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)
