from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recipes.sensitivity_n.claims import CLAIMS, falls, judged, same_heatmap, worse_with_an_offset
from recipes.sensitivity_n.correlation import METHODS
from recipes.sensitivity_n.found import Found
from recipes.sensitivity_n.networks import NETWORKS, TEXT_NETWORKS

GENERATOR = torch.Generator().manual_seed(0)
NOISE = 0.01 * torch.rand(30, 3, generator=GENERATOR)


def found(**curves: Tensor) -> Found:
    """Of methods whose heatmaps are different powers of the same numbers."""
    numbers = torch.rand(30, 4, 4, generator=torch.Generator().manual_seed(1))
    relevance = {name: numbers ** (power + 1) for power, name in enumerate(curves)}
    return Found((1, 10, 100), curves, relevance, 0.9)


def test_every_claim_is_about_what_there_is() -> None:
    for claim in CLAIMS:
        assert set(claim.networks) <= {*NETWORKS, *TEXT_NETWORKS}
        assert set(claim.methods) <= set(METHODS)


def test_a_curve_that_rises_does_not_fall() -> None:
    falling = torch.tensor([1.0, 0.8, 0.5]) - NOISE
    rising = torch.tensor([1.0, 0.5, 0.8]) - NOISE
    assert falls(found(occlusion=falling)).holds
    assert not falls(found(occlusion=rising)).holds
    assert falls(found(occlusion=falling)).text.startswith("0.99")


def test_images_without_a_correlation_are_left_out() -> None:
    curve = torch.tensor([1.0, 0.8, 0.5]).repeat(30, 1)
    curve[:10, 2] = torch.nan
    of_occlusion = found(occlusion=curve)
    assert of_occlusion.at("occlusion", 100).mean == pytest.approx(0.5)
    assert of_occlusion.mean("occlusion").mean == pytest.approx((10 * 0.9 + 20 * 2.3 / 3) / 30)
    assert falls(of_occlusion).holds


def test_how_far_heatmaps_are_apart() -> None:
    same = found(lrp=NOISE)
    assert same.apart("lrp", "lrp") == 0
    assert same_heatmap("lrp", "lrp")(same).holds
    other = found(lrp=NOISE, deeplift=NOISE)
    assert other.apart("lrp", "deeplift") > 0.1
    assert not same_heatmap("lrp", "deeplift")(other).holds
    assert other.alike("lrp", "deeplift") < 1
    assert other.alike("lrp", "lrp") == pytest.approx(1.0)


def test_a_method_is_worse_only_beyond_chance() -> None:
    better, worse = 0.9 - NOISE, 0.5 - NOISE.flip(0)
    assert worse_with_an_offset(found(lrp=worse, integrated_gradients=better)).holds
    assert not worse_with_an_offset(found(lrp=better, integrated_gradients=better.flip(0))).holds
    assert not worse_with_an_offset(found(lrp=better, integrated_gradients=worse)).holds


def test_claims_about_other_methods_and_networks_are_left_out() -> None:
    only = found(occlusion=torch.tensor([1.0, 0.8, 0.5]) - 0 * NOISE)
    assert [row[2:] for row in judged({"cnn_relu": only})] == [
        ["cnn_relu", "1.0000 at n = 1", "holds"], ["cnn_relu", "1.000 to 0.500", "holds"]
    ]  # fmt: skip
    assert judged({"linear": only}) == []
