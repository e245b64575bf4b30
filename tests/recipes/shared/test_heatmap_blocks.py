"""Blocks of images: kept files that are shared by commands, damaged, or of another network."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import aopc_monitor
from recipes.shared.data.labelled_images import ImageData
from recipes.shared.heatmap_blocks import Blocks, Measurement, measured

ON_THE_CPU = argparse.Namespace(
    accelerator="cpu", devices="1", strategy="auto", precision="32-true", max_epochs=None
)


class Sums:
    """What a network gives for each image."""

    def __init__(self) -> None:
        self.parts = {"sums": "of an image", "halves": "half of that"}
        self.measured: list[tuple[str, ...]] = []

    def __call__(
        self, network: nn.Module, images: Tensor, parts: Sequence[str]
    ) -> dict[str, dict[str, Tensor]]:
        self.measured.append(tuple(parts))
        sums = network(images).sum(dim=1).detach()
        of_parts = {"sums": {"values": sums}, "halves": {"values": sums / 2}}
        return {part: of_parts[part] for part in parts}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))


def blocks(few: ImageData) -> Blocks:
    return Blocks(few, torch.arange(7), 3)


def test_parts_that_are_missing_are_measured_and_no_others(few: ImageData, tmp_path: Path) -> None:
    first, second = Sums(), Sums()
    whole = measured(network(), first, blocks(few), tmp_path, ON_THE_CPU)
    assert whole is not None
    assert first.measured == [("sums", "halves")] * 3
    expected = whole.collected("sums")["values"]
    assert len(expected) == 7
    torch.testing.assert_close(whole.collected("halves")["values"], expected / 2)

    whole.paths(blocks(few)[1])["halves"].unlink()
    again = measured(network(), second, blocks(few), tmp_path, ON_THE_CPU)
    assert again is not None
    assert second.measured == [("halves",)]
    assert again.collected("sums")["values"].equal(expected)


def test_the_same_command_may_run_twice_at_a_time(
    few: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (Measurement(network(), Sums(), blocks(few), tmp_path) for _ in range(2))
    for measurement in (one, other):
        measurement.trainer = SimpleNamespace(received_sigterm=False)  # type: ignore[assignment]
    save, waiting = torch.save, [other]

    def save_while_the_other_measures(found: Any, path: Path) -> None:
        save(found, path)
        if waiting:
            waiting.pop().predict_step(blocks(few)[0], 0)

    monkeypatch.setattr(torch, "save", save_while_the_other_measures)
    one.predict_step(blocks(few)[0], 0)
    assert {path.suffix for path in tmp_path.iterdir()} == {".pt"}
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_block_is_named(few: ImageData, tmp_path: Path) -> None:
    whole = measured(network(), Sums(), blocks(few), tmp_path, ON_THE_CPU)
    assert whole is not None
    file = whole.paths(blocks(few)[2])["sums"]
    content = file.read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"no block"):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{file.name}' is damaged: delete it"):
            whole.collected("sums")


def test_another_network_images_or_version_have_other_files(
    few: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same, again, other = network(), network(), network()
    other[1].bias.data[0] += 1e-6
    images = blocks(few)[0]
    names = [
        Measurement(one, Sums(), blocks(few), tmp_path).paths(images)["sums"]
        for one in (same, again, other)
    ]
    assert names[0] == names[1] != names[2]
    images = images.clone()
    images[0, 0, 0, 0] += 1e-6
    assert Measurement(same, Sums(), blocks(few), tmp_path).paths(images)["sums"] != names[0]
    # A later version may have mended a heatmap.
    monkeypatch.setattr(aopc_monitor, "__version__", "0.0.0")
    assert (
        Measurement(same, Sums(), blocks(few), tmp_path).paths(blocks(few)[0])["sums"] != names[0]
    )
