"""The command: its numbers are those of the library, and a second run goes on."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("matplotlib")

from aopc_monitor import area_over_perturbation_curve, heatmaps, normalized_data_range
from aopc_monitor.metrics import deletion, file_size, saco, sensitivity_n
from aopc_monitor.utilities.randomness import generator_for
from recipes.compare_scores.__main__ import main, parse_arguments
from recipes.compare_scores.report import Other
from recipes.compare_scores.scores import CONTROL, SCORES
from recipes.shared.data.labelled_images import ImageData
from recipes.shared.heatmap_study import normalised
from recipes.shared.training.networks import build

QUICK = ["--network", "small_cnn", "--num-images", "5", "--block-size", "3", "--region-size", "8",
         "--sampled-steps", "8", "--parts", "3", "--draws", "2", "--subsets", "4",
         "--accelerator", "cpu", "--devices", "1", "--backend", "eager",
         "--heatmaps", "lrp", "gradient_x_input", "sensitivity_l2"]  # fmt: skip


def folder(output: Path) -> Path:
    return output / "compare_scores" / "digits-on-clutter" / "small_cnn"


def rows_of(output: Path) -> list[dict[str, Any]]:
    with (folder(output) / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_numbers_are_those_of_the_library(few: ImageData, weights: str, tmp_path: Path) -> None:
    report = main([*QUICK, "--weights", weights, "--output", str(tmp_path)])
    assert report is not None
    network = build("small_cnn", 10, 32).eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    first = [row for row in rows_of(tmp_path) if row["heatmap"] == "gradient_x_input"][:3]
    images = normalised(few, torch.tensor([int(row["image"]) for row in first]))
    predicted = network(images).argmax(dim=1)
    relevance = heatmaps.get("gradient_x_input")(network, images, predicted)
    data_range = normalized_data_range(few.mean, few.std)
    noise = {"region_size": 8, "steps": 8, "data_range": data_range}
    seeded = [generator_for(images, 0, *purpose) for purpose in ((), ("removals",), ("subsets",))]
    expected = {
        "aopc": area_over_perturbation_curve(
            network, images, relevance, **noise, generator=seeded[0]  # type: ignore[arg-type]
        ),
        "deletion": deletion(network, images, relevance, steps=3, region_size=8),
        "saco": saco(network, images, relevance, region_size=8),
        "sensitivity_n": sensitivity_n(
            network, images, relevance, n=[2, 8], subsets=4, region_size=8, generator=seeded[2]
        ),
    }  # fmt: skip
    for name, result in expected.items():
        found = torch.tensor([float(row[name]) for row in first], dtype=torch.float64)
        torch.testing.assert_close(found, result.per_image.double(), atol=1e-5, rtol=1e-4)
    assert [float(row["png_bytes"]) for row in first] == file_size(relevance, "png").tolist()
    for row in rows_of(tmp_path):
        assert float(row["srg"]) == pytest.approx(float(row["aopc"]) - float(row["lerf"]))


def test_what_is_written_can_be_read_beside_another_network(
    few: ImageData, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*QUICK, "--weights", weights, "--output", str(tmp_path)]
    report = main(arguments)
    assert report is not None
    names = {"scores.csv", "scores.png", "report.md"}
    before = {name: (folder(tmp_path) / name).read_bytes() for name in names}
    again = Other.read(folder(tmp_path) / "scores.csv")
    assert again.measured.heatmaps == report.measured.heatmaps == (*QUICK[-3:], CONTROL)
    torch.testing.assert_close(again.measured.values, report.measured.values)
    monkeypatch.setattr(
        "recipes.compare_scores.scores.Scores.__call__", lambda *_: pytest.fail("measured again")
    )
    main(arguments)
    assert {name: (folder(tmp_path) / name).read_bytes() for name in names} == before
    text = before["report.md"].decode()
    assert all(name in text for name in SCORES)
    assert "Another network" not in text
    beside = main([*arguments, "--beside", str(folder(tmp_path) / "scores.csv")])
    assert beside is not None
    assert "on the 5 images that were measured of both" in beside.text()
    across = beside.text().split("## Another network")[1]
    # Beside itself: the same numbers, and the same order.
    (row,) = [line for line in across.splitlines() if line.startswith("| deletion ")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:3] == cells[3:5]
    assert cells[5] == "1.00"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--heatmaps", "lrp", "lrp"], "ranks need at least 3"),
        (["--groups", "1"], "--groups 1: must be at least 2"),
        (["--draws", "0"], "--draws 0: must be at least 1"),
    ],
)
def test_arguments_that_cannot_be_are_told(
    wrong: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(wrong)
    assert message in capsys.readouterr().err


def test_files_and_regions_that_do_not_fit_are_told(
    few: ImageData, weights: str, tmp_path: Path
) -> None:
    arguments = [*QUICK, "--weights", weights, "--output", str(tmp_path)]
    with pytest.raises(ValueError, match=r"does not exist: give a scores\.csv"):
        main([*arguments, "--beside", str(tmp_path / "none.csv")])
    other = tmp_path / "other.csv"
    other.write_text("heatmap,aopc\nlrp,0.1\n")
    with pytest.raises(ValueError, match="has no column image, lerf"):
        main([*arguments, "--beside", str(other)])
    with pytest.raises(ValueError, match="--region-size 16: 4 regions fit"):
        main([*arguments, "--region-size", "16"])
