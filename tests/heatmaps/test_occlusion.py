from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from aopc_monitor.heatmaps import Occlusion, get
from aopc_monitor.perturbation.replacements import Constant, Mean
from tests.heatmaps import spaces
from tests.heatmaps.spaces import classifier, inputs
from tests.modules import small_network

captum_attr = pytest.importorskip("captum.attr")

IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
TARGET = torch.tensor([0, 3, 1])


def test_agrees_with_captum() -> None:
    model = small_network().double().eval()
    expected = captum_attr.Occlusion(model).attribute(
        IMAGES, target=TARGET, baselines=0.25, sliding_window_shapes=(3, 4, 4), strides=(3, 4, 4)
    )
    heatmap = Occlusion(region_size=4, replacement=Constant(0.25), data_range=(0.0, 1.0))
    ours = heatmap(model, IMAGES, TARGET)
    # captum answers in float32 whatever it is given.
    torch.testing.assert_close(ours.float(), expected[:, 0], rtol=1e-5, atol=1e-7)
    assert (ours < 0).any()


@pytest.mark.parametrize("chunk_size", [None, 1, 7])
def test_equals_a_loop_over_regions(chunk_size: int | None) -> None:
    model = small_network().double().eval()
    ours = Occlusion(region_size=5, chunk_size=chunk_size)(model, IMAGES, TARGET)
    expected = torch.zeros(3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        clean = model(IMAGES)[range(3), TARGET]
        for top in (0, 5, 10):
            for left in (0, 5, 10):
                x = IMAGES.clone()
                mean = IMAGES.mean(dim=(2, 3), keepdim=True)
                window = (..., slice(top, top + 5), slice(left, left + 5))
                x[window] = mean
                expected[window] = (clean - model(x)[range(3), TARGET])[:, None, None]
    # 16 is 3 * 5 + 1: one row and one column belong to no region.
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)
    assert (ours[:, 15] == 0).all()


def test_uniform_noise_needs_a_data_range_and_averages_repeats() -> None:
    model = small_network().double().eval()
    with pytest.raises(ValueError, match="data_range is missing"):
        Occlusion(replacement="uniform")(model, IMAGES, TARGET)
    one, many = (
        Occlusion(8, "uniform", (0.0, 1.0), repeats=repeats, seed=1) for repeats in (1, 60)
    )
    flat = Occlusion(8, Constant(0.5), (0.0, 1.0))
    linear = nn.Sequential(nn.Flatten(), nn.Linear(768, 4)).double()
    exact = flat(linear, IMAGES, TARGET)  # the mean of the noise
    errors = [(heatmap(linear, IMAGES, TARGET) - exact).norm() for heatmap in (one, many)]
    assert errors[1] < 0.4 * errors[0]


def test_wrong_settings_are_named() -> None:
    for name in ("region_size", "repeats", "chunk_size"):
        with pytest.raises(ValueError, match=f"{name}=0"):
            Occlusion(**{name: 0})
    with pytest.raises(ValueError, match="replacement='fog'"):
        Occlusion(replacement="fog")
    with pytest.raises(ValueError, match="region_size=17 does not fit"):
        Occlusion(region_size=17)(small_network().double(), IMAGES, TARGET)


@pytest.mark.parametrize(
    ("kind", "region_size"),
    [("series", 5), ("series", (7,)), ("volumes", 3), ("volumes", [2, 3, 5])],
)
@pytest.mark.parametrize("chunk_size", [None, 7])
def test_occlusion_equals_a_loop_over_windows(
    kind: str, region_size: Any, chunk_size: int | None
) -> None:
    """All windows have the input's own channel means; what is left at the borders has nothing."""
    model, x = classifier(kind), inputs(kind)
    space = x.shape[2:]
    sides = [region_size] * len(space) if isinstance(region_size, int) else region_size
    wanted, mean = torch.zeros_like(x[:, 0]), x.flatten(2).mean(dim=2)
    starts = [range(side % m // 2, side - m + 1, m) for side, m in zip(space, sides, strict=True)]
    with torch.no_grad():
        clean = model(x)[range(3), spaces.TARGET]
        for corner in product(*starts):
            window = (..., *(slice(a, a + m) for a, m in zip(corner, sides, strict=True)))
            occluded = x.clone()
            occluded[window] = mean.view(*mean.shape, *[1] * len(space))
            lost = clean - model(occluded)[range(3), spaces.TARGET]
            wanted[window] = lost.view(-1, *[1] * len(space))
    ours = Occlusion(region_size, chunk_size=chunk_size)(model, x, spaces.TARGET)
    torch.testing.assert_close(ours, wanted, rtol=1e-8, atol=1e-11)
    assert bool((ours != 0).any())


def test_occlusion_of_tables_takes_each_feature_away() -> None:
    model, x, middle = classifier("tables"), inputs("tables"), torch.linspace(0.1, 0.9, 9)
    wanted = torch.zeros_like(x)
    with torch.no_grad():
        for feature in range(9):
            without = x.clone()
            without[:, feature] = middle[feature]
            wanted[:, feature] = (model(x) - model(without))[range(3), spaces.TARGET]
    data_range = ((middle - 1).tolist(), (middle + 1).tolist())
    ours = Occlusion(replacement="constant", data_range=data_range)(model, x, spaces.TARGET)
    torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=1e-8)


def test_occlusion_by_its_name_takes_features_of_tables_away() -> None:
    model, x = classifier("tables"), inputs("tables")
    wanted = torch.zeros_like(x)
    with torch.no_grad():
        for feature in range(9):
            without = x.clone()
            without[:, feature] = 0.0
            wanted[:, feature] = (model(x) - model(without))[range(3), spaces.TARGET]
    ours = get("occlusion")(model, x, spaces.TARGET)
    torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=1e-8)
    assert bool((ours != 0).all())


def test_occlusion_names_what_makes_no_sense() -> None:
    with pytest.raises(
        ValueError, match=r"replacement=Mean\(\) is for .* these are tables: choose"
    ):
        Occlusion(replacement=Mean())(classifier("tables"), inputs("tables"), spaces.TARGET)
    with pytest.raises(ValueError, match=r"Blur\(.*\) is for images.*these are series"):
        Occlusion(replacement="blur")(classifier("series"), inputs("series"), spaces.TARGET)
    with pytest.raises(ValueError, match=r"region_size=2: each feature of a table is a region"):
        Occlusion(2, Constant(0.0))(classifier("tables"), inputs("tables"), spaces.TARGET)
    with pytest.raises(ValueError, match=r"region_size=\(2, 2\) has 2 numbers for series"):
        Occlusion((2, 2))(classifier("series"), inputs("series"), spaces.TARGET)
    with pytest.raises(ValueError, match="region_size=0 must be a whole number of at least 1"):
        Occlusion((2, 0, 2))
