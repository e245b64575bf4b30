"""The Python of the README and the guides runs as it stands, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

import aopc_monitor
from aopc_monitor import heatmaps
from tests.modules import loaders, small_network

ROOT = Path(__file__).parent.parent
README, HEATMAPS, MONITOR = (
    (ROOT / path).read_text() for path in ("README.md", "docs/heatmaps.md", "docs/monitor.md")
)
DOCS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
PAGES = ["README.md", "CONTRIBUTING.md", *DOCS]


def blocks_of(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


BLOCKS, HEATMAP_BLOCKS, MONITOR_BLOCKS = map(blocks_of, (README, HEATMAPS, MONITOR))
# On all other pages the blocks are one program, read from top to bottom.
PROGRAMS = {
    path: "\n".join(blocks_of((ROOT / path).read_text()))
    for path in DOCS
    if path not in ("docs/heatmaps.md", "docs/monitor.md")
}


def names_for_blocks() -> dict[str, Any]:
    """What a page takes for granted: a network, data, Lightning."""
    return {
        "pl": pl,
        "AOPCMonitor": aopc_monitor.AOPCMonitor,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "model": small_network(),
        "loader": [(images, labels) for images, labels in loaders()[1]],
        "train_loader": loaders()[0],
        "other_loader": [],
        "batch": torch.rand(8, 3, 16, 16),
        "images": torch.rand(8, 3, 16, 16),
    }


@pytest.mark.parametrize("block", BLOCKS + MONITOR_BLOCKS)
def test_block_runs(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(block.replace("steps=30", "steps=3"), names_for_blocks())
    if "compute" in block:
        assert re.match(r"-?\d\.\d{3} ± \d\.\d{3}, random order", capsys.readouterr().out)


@pytest.mark.parametrize("path", [path for path, program in PROGRAMS.items() if program])
def test_blocks_of_a_page_run_one_after_the_other(path: str) -> None:
    if "skimage" in PROGRAMS[path]:
        pytest.importorskip("skimage")
    exec(PROGRAMS[path].replace("steps=30", "steps=3"), names_for_blocks())


@pytest.mark.parametrize("block", HEATMAP_BLOCKS)
def test_block_of_the_guide_to_heatmaps_makes_heatmaps(block: str) -> None:
    names: dict[str, object] = {
        "heatmaps": heatmaps,
        "model": small_network(),
        "images": torch.rand(2, 3, 16, 16),
        "target": torch.tensor([0, 3]),
    }
    exec(block, names)
    relevance = names["relevance"]
    assert isinstance(relevance, torch.Tensor)
    assert relevance.shape == (2, 16, 16)
    assert relevance.std() > 0


@pytest.mark.parametrize("path", PAGES)
def test_linked_files_exist_and_nothing_is_left_to_fill_in(path: str) -> None:
    text = (ROOT / path).read_text()
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert ((ROOT / path).parent / link).is_file(), link
    assert "@@" not in text


def test_every_heatmap_is_described() -> None:
    for name in heatmaps.names():
        assert f"`{name}`" in HEATMAPS


def test_public_names_exist() -> None:
    for name in aopc_monitor.__all__:
        assert getattr(aopc_monitor, name)
