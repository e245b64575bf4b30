from __future__ import annotations

import pytest
import torch
from scipy.stats import ttest_rel
from torch import Tensor

from recipes.compare_heatmaps.claims import CLAIMS, claims_table


def areas_of(**means: float) -> dict[str, Tensor]:
    noise = torch.randn(len(means), 30, generator=torch.Generator().manual_seed(0)).double()
    return {
        name: mean + 0.1 * of_one for (name, mean), of_one in zip(means.items(), noise, strict=True)
    }


def rows_of(table: str | None) -> dict[str, list[str]]:
    assert table is not None
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {row[0]: row[2:] for row in cells}


def test_each_claim_has_a_verdict_at_each_region_size() -> None:
    as_in_the_paper = areas_of(
        lrp=0.4, lrp_epsilon_1=0.6, deconvolution_l2=0.3, sensitivity_l2=0.2, random=0.0
    )
    turned = areas_of(
        lrp=0.2, lrp_epsilon_1=0.0, deconvolution_l2=0.3, sensitivity_l2=0.4, random=0.6
    )
    table = claims_table({3: as_in_the_paper, 9: turned})
    assert table is not None
    assert table.count("yes, ") == len(CLAIMS)
    assert table.count("no, -") == len(CLAIMS)
    assert rows_of(table)["claim"] == ["3 x 3", "9 x 9"]


def test_the_weakest_pair_decides() -> None:
    areas = areas_of(
        lrp=0.8, lrp_epsilon_1=0.9, lrp_epsilon_100=0.21, sensitivity_l2=0.2, sensitivity_linf=0.1
    )
    z = ttest_rel(areas["lrp_epsilon_100"], areas["sensitivity_l2"]).statistic
    rows = rows_of(claims_table({9: areas}))
    assert rows["every LRP tried is better than sensitivity"] == [f"open, {z:.1f}"]
    assert rows["LRP-epsilon 1 is better than sensitivity"][0].startswith("yes, ")
    areas = areas_of(lrp=0.5, lrp_epsilon_1=0.9, lrp_epsilon_100=1.5)
    z = ttest_rel(areas["lrp_epsilon_1"], areas["lrp_epsilon_100"]).statistic
    rows = rows_of(claims_table({9: areas}))
    assert rows["LRP-epsilon 1 is the best of the LRPs tried"] == [f"no, {z:.1f}"]


def test_claims_about_what_was_not_measured_are_left_out() -> None:
    rows = rows_of(claims_table({9: areas_of(lrp_epsilon_1=0.5, grad_cam=0.4, random=0.1)}))
    assert list(rows)[2:] == ["LRP-epsilon 1 is better than a random order"]
    assert claims_table({9: areas_of(grad_cam=0.4, random=0.1)}) is None


@pytest.mark.parametrize("images", [1, 5])
def test_without_an_error_a_claim_is_open(images: int) -> None:
    areas = {"sensitivity_l2": torch.full((images,), 0.5), "random": torch.full((images,), 0.1)}
    rows = rows_of(claims_table({9: areas}))
    assert rows["sensitivity is better than a random order"] == ["open"]
