from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from aopc_monitor import heatmaps
from recipes.shared.data.labelled_images import ImageData
from recipes.shared.heatmap_study import (
    FAMILIES,
    OF_THE_PAPER,
    Study,
    add_study_arguments,
    chosen_heatmaps,
    digest,
    family,
    known_names,
    spread_over_classes,
)


def tiny(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, num_classes))


def options_of(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_study_arguments(parser, num_images=20)
    quick = ["--max-epochs", "1", "--accelerator", "cpu", "--devices", "1"]
    return parser.parse_args([*quick, *arguments])


def test_every_heatmap_of_the_library_can_be_asked_for() -> None:
    names = known_names()
    assert {*heatmaps.names(), *OF_THE_PAPER} - {"random"} == set(names)
    chosen = chosen_heatmaps(names, ([0.0] * 3, [1.0] * 3))
    assert list(chosen) == names
    assert chosen["lrp_epsilon_100"] == heatmaps.LRPEpsilon(epsilon=100.0)
    assert chosen["deep_taylor"] == heatmaps.DeepTaylor(data_range=([0.0] * 3, [1.0] * 3))


def test_families_hold_the_heatmaps_of_the_paper() -> None:
    assert {family(name) for name in OF_THE_PAPER} == set(FAMILIES) - {"random"}
    assert family("deeplift") is None


def test_images_are_spread_and_a_larger_count_begins_alike() -> None:
    labels = torch.tensor([0] * 50 + [1] * 10 + [2] * 3)
    rows = spread_over_classes(labels, 12, seed=1)
    assert labels[rows].bincount().tolist() == [5, 4, 3]
    assert len(set(rows.tolist())) == 12
    assert spread_over_classes(labels, 30, seed=1)[:12].tolist() == rows.tolist()
    assert spread_over_classes(labels, 12, seed=2).tolist() != rows.tolist()
    assert sorted(spread_over_classes(labels, 1000, seed=1).tolist()) == list(range(63))


def test_digest_tells_things_apart() -> None:
    network = nn.Linear(2, 2)
    before = digest(network, torch.zeros(2), "text")
    assert digest(network, torch.zeros(2), "text") == before
    assert digest(network, torch.tensor([0.0, 1e-30]), "text") != before
    assert digest(network, torch.zeros(2), "texts") != before
    network.bias.data[0] += 1e-3
    assert digest(network, torch.zeros(2), "text") != before


def test_a_network_of_ones_own_is_trained_once(
    few: ImageData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [
        "--network", f"{__name__}:tiny", "--output", str(tmp_path)
    ]  # fmt: skip
    first = Study.of(options_of(*arguments), "study")
    assert len(first.rows) == 20
    images = tmp_path / "study" / "digits-on-clutter"
    assert first.folder == images / f"{__name__}.tiny"
    monkeypatch.setattr("pytorch_lightning.Trainer.fit", lambda *args: pytest.fail("trained again"))
    second = Study.of(options_of(*arguments), "study")
    assert digest(second.network) == digest(first.network)
    (weights,) = images.glob("weights_*.pt")
    assert f"weights  {weights}: read" in capsys.readouterr().out
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        Study.of(options_of(*arguments, "--seed", "1"), "study")
    other = replace(few, mean=(0.1,) * 3)
    monkeypatch.setattr("recipes.shared.arguments.load", lambda *args, **kwargs: other)
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        Study.of(options_of(*arguments), "study")


def test_no_images_are_named() -> None:
    with pytest.raises(ValueError, match="--num-images must be at least 1; got 0"):
        Study.of(options_of("--num-images", "0"), "study")


def test_classes_that_the_images_do_not_have_are_numbers(few: ImageData) -> None:
    study = Study(few, nn.Identity(), torch.tensor([0, 1, 2]), {}, Path())
    names = [image["predicted"] for image in study.images_of(torch.tensor([-1, 3, 712]))]
    assert names == ["unknown", few.classes[3], "class 712"]
