"""The README's Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import pytorch_lightning as pl

import aopc_monitor
from aopc_monitor import heatmaps
from tests.modules import loaders, small_network

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_block_runs(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = {
        "pl": pl,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "model": small_network(),
        "loader": [(images, labels) for images, labels in loaders()[1]],
    }
    exec(block.replace("steps=30", "steps=3"), names)
    if "compute" in block:
        assert re.match(r"-?\d\.\d{3} ± \d\.\d{3}, random order", capsys.readouterr().out)


def test_linked_files_exist_and_nothing_is_left_to_fill_in() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    for link in links:
        assert (Path(__file__).parent.parent / link).is_file(), link
    assert "@@" not in README


def test_every_heatmap_is_described() -> None:
    for name in heatmaps.names():
        assert f"`{name}`" in README


def test_public_names_exist() -> None:
    for name in aopc_monitor.__all__:
        assert getattr(aopc_monitor, name)
