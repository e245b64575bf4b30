"""Importing the package is cheap, and does not need Lightning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

WITHOUT_LIGHTNING = """
import sys
class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("lightning", "pytorch_lightning"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NotInstalled())
import torch
import aopc_monitor
from aopc_monitor import *
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2))
metric = aopc_monitor.AOPC(region_size=2, steps=2, data_range=(0.0, 1.0))
metric.update(model, torch.rand(2, 3, 4, 4))
print(float(metric.compute()))
try:
    aopc_monitor.AOPCMonitor
except ModuleNotFoundError as error:
    print(error)
"""

WHAT_IS_LOADED = """
import sys, torch, torchmetrics
before = set(sys.modules)
import aopc_monitor
print([m for m in set(sys.modules) - before if not m.startswith("aopc_monitor")])
"""


def python(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_metric_and_heatmaps_work_without_lightning() -> None:
    value, message = python(WITHOUT_LIGHTNING)
    assert -1 <= float(value) <= 1
    assert message.startswith("AOPCMonitor needs Lightning: pip install pytorch-lightning")


def test_import_loads_little_beside_torch_and_torchmetrics() -> None:
    (loaded,) = python(WHAT_IS_LOADED)
    assert "lightning" not in loaded
    assert "matplotlib" not in loaded
    assert len(eval(loaded)) < 20, loaded
