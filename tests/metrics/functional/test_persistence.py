from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from aopc_monitor.metrics import heatmap_persistence
from aopc_monitor.perturbation import Grid

seeds = st.integers(0, 2**31)


def two(seed: int, count: int = 5, size: int = 4, levels: int = 0) -> tuple[Tensor, Tensor]:
    """Two heatmaps of each image; of few levels, and so with many ties, if wanted."""
    source = torch.Generator().manual_seed(seed)
    shape = (2, count, size, size)
    if levels:
        return tuple(torch.randint(levels, shape, generator=source).float())  # type: ignore[return-value]
    first, second = torch.randn(shape, generator=source)
    return first, first + second


def slowly(one: list[float], other: list[float]) -> float:
    """Pearson's correlation of ranks that are counted one by one."""
    ranks = [[sum(v < x for v in x_of) + sum(v == x for v in x_of) / 2 for x in x_of]
             for x_of in (one, other)]  # fmt: skip
    (a, b), count = ranks, len(one)
    mean_a, mean_b = sum(a) / count, sum(b) / count
    both = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    lengths = sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b)
    return float(both / lengths**0.5) if lengths else float("nan")


@given(seeds, st.sampled_from([0, 1, 2, 3, 9]))
@settings(max_examples=50, deadline=None)
def test_values_are_those_of_a_slow_loop(seed: int, levels: int) -> None:
    now, before = two(seed, levels=levels)
    expected = [
        slowly(a.flatten().tolist(), b.flatten().tolist()) for a, b in zip(now, before, strict=True)
    ]
    assert heatmap_persistence(now, before).tolist() == pytest.approx(
        expected, abs=1e-10, nan_ok=True
    )


@pytest.mark.parametrize("levels", [0, 3, 20])
def test_values_are_those_of_scipy(levels: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    now, before = two(7, count=8, size=9, levels=levels)
    for value, a, b in zip(heatmap_persistence(now, before), now, before, strict=True):
        expected = stats.spearmanr(a.flatten().numpy(), b.flatten().numpy()).statistic
        assert float(value) == pytest.approx(float(expected), abs=1e-10)


@given(seeds)
def test_bounds_symmetry_and_what_does_not_matter(seed: int) -> None:
    now, before = two(seed)
    found = heatmap_persistence(now, before)
    assert (found.abs() <= 1 + 1e-12).all()
    assert torch.equal(heatmap_persistence(before, now), found)
    assert torch.allclose(heatmap_persistence(now.exp(), 3 * before - 5), found)
    assert torch.allclose(heatmap_persistence(-now, before), -found)
    assert torch.allclose(heatmap_persistence(now, now.exp()), torch.ones(5).double())
    turned = heatmap_persistence(now.transpose(1, 2), before.transpose(1, 2))
    assert torch.allclose(turned, found)


def test_unrelated_heatmaps_have_none_on_average() -> None:
    source = torch.Generator().manual_seed(0)
    found = heatmap_persistence(*torch.randn(2, 400, 6, 6, generator=source))
    # The variance of Spearman's coefficient of unrelated values is 1 / (P - 1).
    assert float(found.std()) == pytest.approx(35**-0.5, rel=0.1)
    assert abs(float(found.mean())) < 4 * 35**-0.5 / 400**0.5


def test_constant_heatmaps_have_no_persistence() -> None:
    now, before = two(0)
    now[1], before[2] = 3.0, 0.1
    assert heatmap_persistence(now, before).isnan().tolist() == [False, True, True, False, False]


def test_regions_may_take_the_place_of_pixels() -> None:
    now, before = two(1, size=8)
    grid = Grid((8, 8), 4)
    found = heatmap_persistence(grid.relevance(now), grid.relevance(before))
    for value, a, b in zip(found, grid.relevance(now), grid.relevance(before), strict=True):
        assert float(value) == pytest.approx(slowly(a.tolist(), b.tolist()), abs=1e-10)


@pytest.mark.parametrize(
    ("now", "before", "error", "message"),
    [
        (torch.rand(2, 4, 4), torch.rand(2, 4, 5), ValueError, r"earlier is \(2, 4, 5\) on cpu"),
        (torch.rand(2, 4, 4), torch.rand(2, 4, 4) > 0, TypeError, "earlier is torch.bool"),
        (torch.rand(4), torch.rand(4), ValueError, r"heatmaps has shape \(4,\)"),
        (torch.rand(0, 4), torch.rand(0, 4), ValueError, r"heatmaps has shape \(0, 4\)"),
        (torch.rand(2, 4), torch.full((2, 4), torch.nan), ValueError, "earlier holds NaN"),
        (None, torch.rand(2, 4), TypeError, "heatmaps is NoneType"),
    ],
)
def test_bad_heatmaps_are_named(now: Any, before: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        heatmap_persistence(now, before)
