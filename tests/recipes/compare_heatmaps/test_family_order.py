from __future__ import annotations

import torch
from scipy.stats import ttest_rel

from recipes.compare_heatmaps.family_order import FamilyOrder


def test_families_are_averaged_image_by_image_and_their_differences_are_paired() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other, control = torch.rand(3, 20, generator=generator).double()
    areas = {
        "random": control,
        "lrp": one + 0.3,
        "lrp_epsilon_1": other + 0.2,
        "occlusion": one + 9,
    }
    order = FamilyOrder.of(areas)
    assert list(order.means) == ["lrp", "random"]
    torch.testing.assert_close(order.means["lrp"], (one + other) / 2 + 0.25)
    z = ttest_rel(order.means["lrp"], control).statistic
    assert order.zs == f"{z:.1f}"


def test_the_order_of_the_paper_is_marked() -> None:
    def areas(*means: float) -> dict[str, torch.Tensor]:
        names = ("lrp", "deconvolution_l2", "sensitivity_l2", "random")
        return {name: torch.tensor([mean]) for name, mean in zip(names, means, strict=True)}

    as_there = FamilyOrder.of(areas(0.4, 0.3, 0.2, 0.1))
    assert as_there.text == "lrp > deconvolution > sensitivity > random (the paper's)"
    # A single image has no error.
    assert as_there.zs == "none, none, none"
    other = FamilyOrder.of(areas(0.4, 0.1, 0.2, 0.3))
    assert other.text == "lrp > random > sensitivity > deconvolution"
    assert other.of_the_paper == "lrp > deconvolution > sensitivity > random"
