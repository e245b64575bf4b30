from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scipy.stats import ttest_rel
from torch import Tensor, nn

pytest.importorskip("matplotlib")

from aopc_monitor import area_over_perturbation_curve
from aopc_monitor.perturbation.steps import Strata
from aopc_monitor.utilities.statistics import MeanAndError, mean_and_sem
from recipes.compare_heatmaps.report import Areas, Report, area_by_step
from recipes.shared.reporting.markdown import z_text


def areas_of(**means: float) -> Areas:
    noise = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)).double()
    by_step = {
        name: mean + 0.01 * (number + 1) * noise.roll(number, dims=0)
        for number, (name, mean) in enumerate(means.items())
    }
    return Areas(4, by_step)


@pytest.mark.parametrize("sampled_steps", [None, 3])
def test_area_at_the_last_step_is_that_of_the_library(sampled_steps: int | None) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    images = torch.rand(6, 3, 8, 8)
    for steps in (2, 5, 8):
        count = None if sampled_steps is None else min(sampled_steps, steps)
        result = area_over_perturbation_curve(
            model, images, images[:, 0], region_size=2, steps=steps, data_range=(0.0, 1.0),
            sampled_steps=count,
        )  # fmt: skip
        areas = area_by_step(result.curves, Strata(steps, count or steps))
        torch.testing.assert_close(areas[:, -1], result.per_image.double())


def test_area_at_each_step_is_eq_12_with_that_many_steps() -> None:
    curves = torch.rand(5, 8, generator=torch.Generator().manual_seed(0)).double()
    areas = area_by_step(curves, Strata(7, 7))
    for last in range(1, 8):
        expected = (curves[:, :1] - curves[:, : last + 1]).sum(dim=1) / (last + 1)
        torch.testing.assert_close(areas[:, last - 1], expected)


def test_sampled_steps_are_unbiased_at_every_step() -> None:
    curve, strata = torch.linspace(1, 0, 8).double() ** 2, Strata(7, 3)
    draws = strata.draw(20_000, torch.Generator().manual_seed(0), torch.device("cpu"))
    curves = torch.full((len(draws), 8), float("nan")).double()
    curves.scatter_(1, draws, curve.expand(len(draws), -1).gather(1, draws))
    curves[:, 0] = curve[0]
    mean, sem = mean_and_sem(area_by_step(curves, strata))
    off = (mean - area_by_step(curve, Strata(7, 7))).abs()
    assert (off < 4 * sem + 1e-9).all()


def test_z_is_the_paired_t_of_scipy() -> None:
    areas = areas_of(lrp=0.41, random=0.40)
    difference = MeanAndError.of(areas.last["lrp"] - areas.last["random"])
    expected = ttest_rel(areas.last["lrp"].numpy(), areas.last["random"].numpy())
    assert difference.z == pytest.approx(expected.statistic)
    assert z_text(difference) in areas.ranking_table()
    assert f" {-expected.statistic:.1f} " in areas.pair_table()


def test_nothing_is_significant_without_an_error() -> None:
    assert z_text(MeanAndError.of(torch.zeros(5))) == ""
    assert z_text(MeanAndError.of(torch.tensor([0.3]))) == ""


def test_the_order_of_the_paper_is_recognised() -> None:
    found = areas_of(
        lrp=0.5,
        lrp_epsilon_1=0.4,
        deconvolution_l2=0.3,
        sensitivity_l2=0.2,
        random=0.1,
        occlusion=1,
    ).order_found()
    assert "is the paper's: found was lrp > deconvolution > sensitivity > random" in found
    other = areas_of(lrp=0.2, deconvolution_l2=0.3, random=0.1).order_found()
    assert "is not the paper's lrp > deconvolution > random: found was deconvolution > lrp" in other


def test_points_are_paired_differences(tmp_path: Path) -> None:
    areas = areas_of(lrp=0.5, sensitivity_l2=0.2, random=0.1)
    images: list[dict[str, object]] = [
        {"image": n, "label": "a", "predicted": "b"} for n in range(20)
    ]
    report = Report("digits", [areas], "sensitivity_l2", images, {"seed": 0}, "command", 32)
    report.write(tmp_path)
    point = next(p for p in report.points() if (p["heatmap"], p["step"]) == ("lrp", 2))
    of: dict[str, Tensor] = {name: values[:, 1] for name, values in areas.by_step.items()}
    for key, values in {
        "aopc": of["lrp"],
        "minus_random": of["lrp"] - of["random"],
        "minus_reference": of["lrp"] - of["sensitivity_l2"],
    }.items():
        assert point[key] == pytest.approx(float(values.mean()))
        assert point[f"{key}_sem"] == pytest.approx(float(values.std() / 20**0.5))
    assert len(report.areas_of_images()) == 20
    text = (tmp_path / "report.md").read_text()
    assert "| seed" in text
    assert "## Claims of the paper" in text
    assert "| every LRP tried is better than sensitivity" in text


def families_of(report: Report) -> list[list[str]]:
    """The cells of the table of families, its header first."""
    table = report.families()[2].splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table if "---" not in line
    ]


def report_of(*areas: Areas, image_size: int = 7) -> Report:
    return Report("digits", areas, "lrp", [], {}, "", image_size)


def test_the_order_of_the_families_is_a_row_for_each_region_size() -> None:
    areas = areas_of(lrp=0.5, lrp_epsilon_1=0.4, random=0.1)
    other = Areas(2, areas_of(lrp=0.1, random=0.2).by_step)
    header, first, second = families_of(report_of(areas, other))
    assert header == ["regions", "at the last step", "z between neighbours"]
    z = ttest_rel(other.last["random"], other.last["lrp"]).statistic
    assert first == ["2 x 2, 3 steps", "random > lrp", f"{z:.1f}"]
    means = (areas.last["lrp"] + areas.last["lrp_epsilon_1"]) / 2
    z = ttest_rel(means, areas.last["random"]).statistic
    assert second == ["4 x 4, 3 steps", "lrp > random (the paper's)", f"{z:.1f}"]
    assert "the paper finds lrp > random" in report_of(areas).text()


def test_the_order_is_also_told_for_the_share_of_the_paper() -> None:
    by_step = {
        "lrp": torch.tensor([0.0, 0.1, 0.2, 0.5]).expand(3, -1),
        "random": torch.tensor([0.1, 0.2, 0.1, 0.1]).expand(3, -1),
    }
    few_steps = {name: areas[:, :2] for name, areas in by_step.items()}
    # 0.157 * (7 / 2) ** 2 is 1.9 regions: 2 of 4 steps; of regions of 3 pixels it is 1 of 2.
    header, of_2, of_3, of_6 = families_of(
        report_of(Areas(2, by_step), Areas(3, few_steps), Areas(6, few_steps))
    )
    assert header[3] == "after 15.7% of the image"
    assert of_2[1:] == ["lrp > random (the paper's)", "none", "2 of 4 steps: random > lrp", "none"]
    assert of_3[3] == "1 of 2 steps: random > lrp"
    assert of_6[3:] == ["", ""]


def test_one_family_has_no_order() -> None:
    assert report_of(areas_of(grad_cam=0.5, random=0.1)).families() == []


def test_what_is_to_be_known_of_a_heatmap_is_in_the_report() -> None:
    areas = areas_of(lrp=0.5, random=0.1)
    notes = ["lrp: fine", "grad_cam: left out, it has no places"]
    text = Report("digits", [areas], "lrp", [], {}, "", 7, notes).text()
    assert "- lrp: fine\n- grad_cam: left out, it has no places" in text
    assert "The heatmaps on this network" not in report_of(areas).text()
