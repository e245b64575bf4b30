"""ruff and mypy are part of the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent


OLD_TORCH = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 13)
MYPY = pytest.param(
    ["mypy"],
    marks=[
        pytest.mark.full,
        pytest.mark.skipif(OLD_TORCH, reason="older torch declares other types"),
    ],
)


@pytest.mark.parametrize(
    "command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], MYPY], ids=" ".join
)
def test_clean(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
