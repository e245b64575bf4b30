"""Freed memory, in processes of their own: what is set there stays."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from recipes.shared.freed_memory import keep_all_freed_memory
print(keep_all_freed_memory() if {keeps} else None)
for _ in range(12):  # until blocks that begin at multiples of 64 have found their places
    torch.ones(12_000_000)  # 48 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    torch.ones(12_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of the C library of Linux")
def test_pages_are_not_fetched_again() -> None:
    known, faults = told(keeps=True)
    if known != "True":
        pytest.skip("another C library than that of GNU")
    _, others = told(keeps=False)
    assert int(faults) < int(others) / 10


def told(keeps: bool) -> list[str]:
    code = FAULTS.format(keeps=keeps)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.split()
