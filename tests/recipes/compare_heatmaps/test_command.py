from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("matplotlib")

from aopc_monitor import area_over_perturbation_curve, heatmaps, normalized_data_range
from aopc_monitor.utilities.randomness import generator_for
from recipes.compare_heatmaps.__main__ import main, parse_arguments
from recipes.compare_heatmaps.areas import Comparison
from recipes.shared.data.labelled_images import ImageData
from recipes.shared.heatmap_study import normalised
from recipes.shared.training.networks import build

ROOT = Path(__file__).parents[3]
QUICK = ["--network", "small_cnn", "--num-images", "7", "--block-size", "3", "--steps", "6",
         "--region-size", "5", "19", "4", "--accelerator", "cpu", "--devices", "1",
         "--heatmaps", "lrp", "lrp_epsilon_100", "sensitivity_l2"]  # fmt: skip
FILES = {"points.csv", "areas.csv", "fig4.png", "fig8.png", "report.md"}


def results(output: Path) -> Path:
    return output / "compare_heatmaps" / "digits-on-clutter" / "small_cnn"


def blocks(output: Path) -> set[Path]:
    return set((results(output) / "blocks").iterdir())


def rows_of(output: Path, ending: str = "") -> list[dict[str, Any]]:
    folder = results(output).with_name(f"small_cnn{ending}")
    with (folder / "areas.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_numbers_are_those_of_the_library(
    few: ImageData, weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*QUICK, "--weights", weights, "--output", str(tmp_path)])
    assert {path.name for path in results(tmp_path).iterdir()} >= FILES
    assert "regions of 19 x 19: left out, 1 fit images of 32 x 32" in capsys.readouterr().out
    network = build("small_cnn", 10, 32).eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    for size in (4, 5):
        written = [row for row in rows_of(tmp_path) if row["region_size"] == str(size)]
        block = written[3:6]
        images = normalised(few, torch.tensor([int(row["image"]) for row in block]))
        predicted = network(images).argmax(dim=1)
        assert [int(row["predicted"]) for row in block] == predicted.tolist()
        makers = {
            "lrp": heatmaps.LRPEpsilon(epsilon=0.01),
            "lrp_epsilon_100": heatmaps.LRPEpsilon(epsilon=100.0),
            "sensitivity_l2": heatmaps.Sensitivity(),
        }
        for name, make in makers.items():
            direct = area_over_perturbation_curve(
                network, images, make(network, images, predicted), region_size=size, steps=6,
                data_range=normalized_data_range(few.mean, few.std),
                generator=generator_for(images, 0),
            )  # fmt: skip
            found = torch.tensor([float(row[name]) for row in block])
            torch.testing.assert_close(found, direct.per_image.float(), atol=1e-6, rtol=1e-4)


def test_a_second_run_measures_nothing_and_reports_the_same(
    few: ImageData, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*QUICK, "--weights", weights, "--output", str(tmp_path)]
    main(arguments)
    before = {name: (results(tmp_path) / name).read_bytes() for name in FILES}
    missing = next(path for path in blocks(tmp_path) if "regions_of_4_" in path.name)
    missing.unlink()
    main(arguments)  # as after an interruption: one block is missing
    assert missing.exists()
    monkeypatch.setattr(
        "recipes.compare_heatmaps.areas.Comparison.__call__",
        lambda *_: pytest.fail("measured again"),
    )
    main(arguments)
    assert {name: (results(tmp_path) / name).read_bytes() for name in FILES} == before


def test_sigterm_ends_it_after_the_block(
    few: ImageData, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*QUICK, "--weights", weights, "--output", str(tmp_path), "--region-size", "4"]
    measure = Comparison.__call__

    def and_is_asked_to_end(*given: Any) -> Any:
        # As Python calls it; after OpenVINO's tests a signal of the system would end the process.
        handler = signal.getsignal(signal.SIGTERM)
        assert callable(handler), "Lightning has not taken the signal"
        handler(signal.SIGTERM, None)
        return measure(*given)

    monkeypatch.setattr(Comparison, "__call__", and_is_asked_to_end)
    with pytest.raises(SystemExit, match=r"SIGTERM.*goes on with the next block"):
        main(arguments)
    assert len(blocks(tmp_path)) == 1


def test_more_images_and_region_sizes_keep_what_was_measured(
    few: ImageData, weights: str, tmp_path: Path
) -> None:
    arguments = [*QUICK, "--weights", weights, "--output", str(tmp_path)]
    main([*arguments, "--num-images", "6", "--region-size", "4"])
    early = rows_of(tmp_path)
    files = blocks(tmp_path)
    assert len(files) == 2
    main([*arguments, "--num-images", "9", "--region-size", "4", "8"])
    assert rows_of(tmp_path)[:6] == early
    assert files < blocks(tmp_path)
    assert len(blocks(tmp_path)) == 6


@pytest.mark.parametrize(
    "other",
    [["--steps", "5"], ["--seed", "1"], ["--heatmaps", "sensitivity_l2", "lrp"], ["--repeats", "2"],
     ["--sampled-steps", "2"], ["--dropout", "active"], ["--block-size", "4"]],
    ids=" ".join,
)  # fmt: skip
def test_other_settings_do_not_mix(
    few: ImageData, weights: str, tmp_path: Path, other: list[str]
) -> None:
    arguments = [*QUICK, "--weights", weights, "--region-size", "8"]
    main([*arguments, "--output", str(tmp_path / "both")])
    main([*arguments, *other, "--output", str(tmp_path / "both")])
    main([*arguments, *other, "--output", str(tmp_path / "alone")])
    ending = "-dropout" if "--dropout" in other else ""
    assert rows_of(tmp_path / "both", ending) == rows_of(tmp_path / "alone", ending)


def test_another_network_does_not_mix(few: ImageData, weights: str, tmp_path: Path) -> None:
    arguments = [*QUICK, "--weights", weights, "--output", str(tmp_path)]
    main(arguments)
    before = rows_of(tmp_path)
    values = torch.load(weights, weights_only=True)
    values["features.0.bias"][0] += 0.5
    torch.save(values, weights)
    main(arguments)
    assert rows_of(tmp_path) != before


def test_active_dropout_changes_the_values_and_is_the_same_again(
    few: ImageData, weights: str, tmp_path: Path
) -> None:
    arguments = [*QUICK, "--weights", weights]
    main([*arguments, "--output", str(tmp_path / "off")])
    active = [*arguments, "--dropout", "active", "--output"]
    main([*active, str(tmp_path / "first")])
    main([*active, str(tmp_path / "second"), "--region-size", "4"])
    main([*active, str(tmp_path / "second")])
    first, second = (rows_of(tmp_path / name, "-dropout") for name in ("first", "second"))
    assert first == second
    assert first != rows_of(tmp_path / "off")


def linear(num_classes: int) -> nn.Module:
    """A network without convolution and rectifier."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))


def test_a_heatmap_that_does_not_apply_is_left_out_and_told(
    few: ImageData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "linear.pt"
    torch.manual_seed(0)
    torch.save(linear(10).state_dict(), weights)
    of_linear = ["--network", f"{__name__}:linear", "--weights", str(weights)]
    arguments = [*QUICK, *of_linear, "--output", str(tmp_path), "--region-size", "4"]
    names = ["grad_cam", "deconvolution_l2", "sensitivity_l2"]
    report = main([*arguments, "--heatmaps", *names])
    assert report is not None
    assert report.areas[0].last.keys() == {"deconvolution_l2", "sensitivity_l2", "random"}
    told = capsys.readouterr().out
    assert "grad_cam: left out, layer is not given, and no convolution" in told
    assert "deconvolution_l2: WARNING: no ReLU or other rectifier was met" in told
    assert "- grad_cam: left out, layer is not given" in report.text()
    with pytest.raises(ValueError, match=r"--reference grad_cam does not apply to .*:linear"):
        main([*arguments, "--heatmaps", *names, "--reference", "grad_cam"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--heatmaps", "lrp"], "--heatmaps lrp: a comparison needs at least two"),
        (["--heatmaps", "lrp", "deeplift"], "--reference sensitivity_l2 is not among --heatmaps"),
        (["--heatmaps", "lpr"], "invalid choice: 'lpr'"),
        (["--repeats", "5", "--sampled-steps", "2"], "--repeats 5 and --sampled-steps 2 do not go"),
        (["--block-size", "0"], "--block-size must be at least 1"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(arguments)
    assert message in capsys.readouterr().err


def test_region_sizes_that_do_not_fit_are_named(few: ImageData, weights: str) -> None:
    with pytest.raises(ValueError, match=r"--region-size \[19, 40\]: at least 2 regions"):
        main([*QUICK, "--weights", weights, "--region-size", "19", "40"])


@pytest.mark.long
def test_two_processes_write_the_report_of_one(tmp_path: Path) -> None:
    """In processes of their own, since DDP starts the whole command once more."""
    for devices in ("1", "2"):
        command = [
            sys.executable, "-m", "recipes.compare_heatmaps", *QUICK, "--devices", devices,
            "--strategy", "auto" if devices == "1" else "ddp", "--max-epochs", "1",
            "--weights", str(tmp_path / "weights.pt"), "--output", str(tmp_path / devices),
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("report   ") == 1
    assert rows_of(tmp_path / "1") == rows_of(tmp_path / "2")
    points = [results(tmp_path / devices) / "points.csv" for devices in ("1", "2")]
    assert points[0].read_bytes() == points[1].read_bytes()
