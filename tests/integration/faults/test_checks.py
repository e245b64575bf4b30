"""The comparison finds what it is there to find, and the page shows all of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from tests.integration.faults.checks import complaints, differences
from tests.integration.faults.fault import COLUMNS
from tests.integration.faults.injection import Injection
from tests.integration.faults.page import (
    PAGE,
    TITLES,
    Row,
    columns_of,
    current_versions,
    merged,
    render,
    rows_of,
)
from tests.integration.faults.table import CASES, FAULTS
from tests.integration.faults.training import Seen, run

RAISES = FAULTS["the model raises"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Seen, Seen, Seen]:
    folder = tmp_path_factory.mktemp("runs")
    without, healthy = (run(Injection(), folder, watched=watched) for watched in (False, True))
    return run(RAISES.make(True), folder), without, healthy


def found(runs: tuple[Seen, Seen, Seen], change: Callable[[Seen], None]) -> list[str]:
    seen = copy.deepcopy(runs[0])
    change(seen)
    return complaints(RAISES, "one process", [seen], [runs[1]], [runs[2]])


def no_value(seen: Seen) -> None:
    seen.callback_metrics["aopc/custom"] = float("nan")


def other_value(seen: Seen) -> None:
    seen.histories["aopc"][0]["aopc/custom"] += 0.01


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda seen: setattr(seen, "ended", "ValueError: a broken layer"), "ended with"),
        (lambda seen: seen.warnings.pop(), "2 warnings"),
        (lambda seen: seen.warnings.reverse(), "at step 1 was said"),
        (lambda seen: seen.callback_metrics.pop("aopc/failures"), "callbacks see None"),
        (lambda seen: seen.logged.clear(), "logged as failures are []"),
        (lambda seen: seen.histories["aopc"].clear(), "evaluated at the steps []"),
        (no_value, "aopc/custom is nan"),
        (other_value, "evaluated to"),
    ],
)
def test_what_is_wrong_is_found(
    change: Callable[[Seen], Any], complaint: str, runs: tuple[Seen, Seen, Seen]
) -> None:
    assert found(runs, lambda seen: None) == []
    assert any(complaint in line for line in found(runs, change))


class DrawsANumber(pl.Callback):
    def on_train_batch_end(self, *args: Any) -> None:
        torch.rand(())


def test_a_training_that_differs_is_found(runs: tuple[Seen, Seen, Seen], tmp_path: Path) -> None:
    meddled = Injection(alter=lambda trainer: trainer.callbacks.append(DrawsANumber()))
    seen = run(meddled, tmp_path, watched=False)
    lines = list(differences(runs[1].trace, seen.trace, "the training"))
    assert any("weights and buffers" in line for line in lines)
    assert any("random torch" in line for line in lines)


def test_the_page_lists_exactly_the_faults() -> None:
    assert list(rows_of(PAGE.read_text())) == [n for group in TITLES for n in columns_of(group)]


def test_every_case_has_a_cell() -> None:
    row = Row(current_versions(), dict.fromkeys(COLUMNS, "run ends"))
    page = render(dict.fromkeys(FAULTS, row))
    assert page.count("| run ends") == sum(len(fault.columns) for fault in FAULTS.values())
    assert len({case.fault for case in CASES}) == len(rows_of(page)) - 1


def test_a_partial_run_keeps_the_rest_unless_it_is_of_other_versions() -> None:
    old = {"a": Row(("2", "2"), {"rank 0": "x"}), "b": Row(("2", "2"), {"rank 0": "y"})}
    same, other = Row(("2", "2"), {"rank 1": "z"}), Row(("3", "2"), {"rank 1": "z"})
    assert merged(old, {"a": same})["a"].cells == {"rank 0": "x", "rank 1": "z"}
    assert merged(old, {"a": other}) == {"a": other, "b": old["b"]}
