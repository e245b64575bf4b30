from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr, ttest_rel

pytest.importorskip("matplotlib")

from aopc_monitor import heatmaps
from aopc_monitor.metrics.functional.complexity import file_size, shannon_entropy
from recipes.heatmap_complexity.__main__ import Complexity, main, parse_arguments
from recipes.heatmap_complexity.report import MEASURES, Report, mean_areas
from recipes.shared.data.labelled_images import ImageData
from recipes.shared.heatmap_study import normalised
from recipes.shared.reporting.markdown import write_csv
from recipes.shared.training.networks import build

NAMES = ["lrp", "lrp_epsilon_100", "deconvolution_l2", "sensitivity_l2"]


def arguments_of(output: Path, *more: str) -> list[str]:
    weights = output / "weights.pt"
    if not weights.exists():
        torch.manual_seed(0)
        torch.save(build("small_cnn", 10, 32).state_dict(), weights)
    return ["--network", "small_cnn", "--weights", str(weights), "--num-images", "25",
            "--accelerator", "cpu", "--devices", "1", "--output", str(output),
            "--heatmaps", *NAMES, *more]  # fmt: skip


def report_of(**means: float) -> Report:
    noise = torch.randn(12, generator=torch.Generator().manual_seed(0)).double()
    values = {
        name: {measure: mean + (number + 1) * noise.roll(number) for measure in MEASURES}
        for number, (name, mean) in enumerate(means.items())
    }
    return Report("digits", values, "sensitivity_l2", [{"image": n} for n in range(12)], {}, "")


def test_numbers_are_those_of_the_library(few: ImageData, tmp_path: Path) -> None:
    report = main(arguments_of(tmp_path))
    assert report is not None
    folder = tmp_path / "heatmap_complexity" / "digits-on-clutter" / "small_cnn"
    assert {"complexity.csv", "fig5.png", "report.md"} <= {path.name for path in folder.iterdir()}
    with (folder / "complexity.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["heatmap"] == "lrp"]
    network = build("small_cnn", 10, 32).eval()
    network.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    images = normalised(few, torch.tensor([int(row["image"]) for row in rows]))
    relevance = heatmaps.get("lrp")(network, images, network(images).argmax(dim=1))
    assert [float(row["jpeg"]) for row in rows] == pytest.approx(
        file_size(relevance, "jpeg").tolist(), abs=3
    )
    assert [float(row["entropy"]) for row in rows] == pytest.approx(
        shannon_entropy(relevance).tolist(), abs=0.02
    )


def test_a_second_run_measures_nothing(
    few: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main(arguments_of(tmp_path))
    report = tmp_path / "heatmap_complexity" / "digits-on-clutter" / "small_cnn" / "report.md"
    before = report.read_text()
    monkeypatch.setattr(Complexity, "__call__", lambda *args: pytest.fail("measured again"))
    main(arguments_of(tmp_path))
    assert report.read_text() == before


def test_z_is_the_paired_t_of_scipy() -> None:
    report = report_of(lrp=300.0, sensitivity_l2=302.0)
    found = ttest_rel(*(report.values[name]["png"].numpy() for name in ("lrp", "sensitivity_l2")))
    assert f" {found.statistic:.1f} " in report.table("png")


def test_what_the_paper_found_is_recognised() -> None:
    as_there = report_of(lrp=100.0, lrp_epsilon_1=90.0, deconvolution_l2=200, sensitivity_l2=300)
    assert "2 of 2 LRP heatmaps are simpler" in as_there.verdict("png")
    assert "as in the paper" in as_there.verdict("png")
    not_there = report_of(lrp=250.0, lrp_epsilon_1=90.0, deconvolution_l2=200, sensitivity_l2=300)
    assert "1 of 2 LRP heatmaps are simpler" in not_there.verdict("png")
    assert "in the paper all are" in not_there.verdict("png")
    alone = report_of(grad_cam=1.0, sensitivity_l2=300)
    assert "nothing to compare" in alone.verdict("png")


def test_rank_correlation_with_areas(few: ImageData, tmp_path: Path) -> None:
    areas = tmp_path / "areas.csv"
    aopc = dict(zip([*NAMES, "random"], [0.4, 0.1, 0.3, 0.2, 0.0], strict=True))
    write_csv(areas, [
        {"region_size": 4, "image": n, "label": "0", "predicted": "1",
         **{name: value + 0.1 * (-1) ** n for name, value in aopc.items()}}
        for n in range(2)
    ])  # fmt: skip
    assert mean_areas(areas)[4] == pytest.approx(aopc)
    report = main(arguments_of(tmp_path, "--areas", str(areas)))
    assert report is not None
    means = [float(report.values[name]["entropy"].mean()) for name in NAMES]
    expected = spearmanr(means, [aopc[name] for name in NAMES])[0]
    line = next(line for line in report.text().splitlines() if line.startswith("|           4 |"))
    assert float(line.split("|")[-2]) == pytest.approx(expected, abs=0.006)


def test_a_wrong_file_of_areas_is_named(few: ImageData, tmp_path: Path) -> None:
    other = tmp_path / "points.csv"
    write_csv(other, [{"step": 1}])
    with pytest.raises(ValueError, match="has no column region_size"):
        mean_areas(other)
    write_csv(other, [{"region_size": 4, "image": 1, "lrp": 0.1}])
    with pytest.raises(ValueError, match="a rank correlation needs at least 3"):
        main(arguments_of(tmp_path, "--areas", str(other)))
    with pytest.raises(ValueError, match=r"--areas .*missing.csv' does not exist"):
        main(arguments_of(tmp_path, "--areas", str(tmp_path / "missing.csv")))


def test_a_missing_reference_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--heatmaps", "lrp"])
    assert "--reference sensitivity_l2 is not among --heatmaps" in capsys.readouterr().err
