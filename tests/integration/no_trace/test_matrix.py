"""Training with the monitor is bit-identical to training without it, in every case."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from tests.integration.no_trace.cases import (
    CASES,
    INDUCTOR,
    KINDS,
    REFERENCES,
    SHARDED,
    Case,
    title,
)
from tests.integration.no_trace.comparison import compare

pytestmark = pytest.mark.full
# One with two processes is short enough to be run each time.
REPRESENTATIVE = next(case for case in CASES if case.processes == "ddp" and case.compile == "none")


def parameters() -> list[Any]:
    long = [case for case in CASES if case.processes != "1" and case != REPRESENTATIVE]
    long += [*INDUCTOR, *SHARDED[1:]]
    return [
        pytest.param(case, id=f"case {number}", marks=[pytest.mark.long] * (case in long))
        for number, case in enumerate([*CASES, *INDUCTOR, *KINDS, *REFERENCES, *SHARDED], 1)
    ]


def reason_not_to_run(case: Case) -> str | None:
    if case.averaging == "ema" and not hasattr(pl.callbacks, "EMAWeightAveraging"):
        return "EMAWeightAveraging needs Lightning 2.6"
    if case.normalization == "sync_batch_norm" and torch.cuda.device_count() < 2:
        return "synchronized BatchNorm needs two GPUs"
    if case in INDUCTOR and shutil.which("g++") is None:
        return "inductor needs a compiler for C++"
    if case.kind == "texts of BERT" and find_spec("transformers") is None:
        return "BERT needs transformers"
    return None


@pytest.mark.filterwarnings("error:.*figures")
@pytest.mark.parametrize("case", parameters())
def test_training_is_bit_identical(
    case: Case,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record_property("case", title(case))
    reason = reason_not_to_run(case)
    if reason is not None:
        pytest.skip(reason)
    # What other runs have compiled, or half compiled, is not used.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    assert compare(case, tmp_path) == []
