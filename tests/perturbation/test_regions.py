from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aopc_monitor.perturbation.regions import Grid, perturbation_order
from tests.reference import regions_of

extents = st.lists(st.integers(1, 24), min_size=1, max_size=2) | st.lists(
    st.integers(1, 9), min_size=3, max_size=3
)


@given(extent=extents, data=st.data(), seed=st.integers(0, 1000))
def test_step_k_perturbs_exactly_the_first_k_regions(
    extent: list[int], data: st.DataObject, seed: int
) -> None:
    dimensions = len(extent)
    sizes = st.lists(st.integers(1, 24), min_size=dimensions, max_size=dimensions)
    region_size = data.draw(st.integers(1, 24) | sizes)
    sides = [region_size] * dimensions if isinstance(region_size, int) else region_size
    if any(m > side for m, side in zip(sides, extent, strict=True)):
        with pytest.raises(ValueError, match=r"region_size=.* does not fit"):
            Grid(tuple(extent), region_size)
        return
    grid = Grid(tuple(extent), region_size)
    counts = [side // m for m, side in zip(sides, extent, strict=True)]
    assert grid.counts == tuple(counts)
    assert grid.num_regions == math.prod(counts)
    order = torch.randperm(grid.num_regions, generator=torch.Generator().manual_seed(seed))[None]
    ranks = grid.rank_map(order)[0]
    expected = torch.full(extent, grid.num_regions, dtype=torch.int16)
    places = regions_of(grid)
    for k, region in enumerate(order[0].tolist()):
        expected[places[region]] = k
    assert torch.equal(ranks, expected)
    k = seed % (grid.num_regions + 1)
    chosen = torch.zeros(1, grid.num_regions, dtype=torch.bool).scatter_(1, order[:, :k], True)
    assert torch.equal(grid.mask(chosen)[0], ranks < k)
    # The free border is split evenly.
    for side, count, m, margin in zip(extent, counts, sides, grid.margins, strict=True):
        assert 0 <= (side - count * m) - 2 * margin <= 1


def test_what_is_one_number_per_dimension_is_told() -> None:
    assert Grid((12, 8), [4, 2]).sides == (4, 2)
    assert Grid((12, 8), torch.tensor([4, 2])).counts == (3, 4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has 2 numbers for volumes, which have 3 dimensions"):
        Grid((4, 4, 4), (2, 2))
    with pytest.raises(ValueError, match=r"region_size=\(2, 5, 2\) does not fit volumes of 4 x 4"):
        Grid((4, 4, 4), (2, 5, 2))


@pytest.mark.parametrize(("side", "dtype"), [(181, torch.int16), (182, torch.int32)])
def test_ranks_are_counted_exactly_however_many_there_are(side: int, dtype: torch.dtype) -> None:
    grid = Grid((side, side), 1)
    ranks = grid.rank_map(torch.arange(grid.num_regions)[None])
    assert ranks.dtype == dtype
    assert torch.equal(ranks.flatten(), torch.arange(side**2, dtype=dtype))


@pytest.mark.parametrize("extent", [(11,), (11, 7), (11, 7, 5)])
def test_relevance_is_the_mean_over_a_region(extent: tuple[int, ...]) -> None:
    heatmaps = torch.rand(2, *extent)
    grid = Grid(extent, 3)
    means = [heatmaps[(slice(None), *place)].flatten(1).mean(1) for place in regions_of(grid)]
    expected = torch.stack(means, 1)
    torch.testing.assert_close(grid.relevance(heatmaps).float(), expected)


@given(value=st.floats(-1e6, 1e6, width=32), region_size=st.integers(1, 9))
def test_equal_pixels_give_equal_regions(value: float, region_size: int) -> None:
    relevance = Grid((31, 31), region_size).relevance(torch.full((1, 31, 31), value))
    assert len(relevance.unique()) == 1


def test_ties_are_broken_at_random_and_evenly() -> None:
    generator = torch.Generator().manual_seed(0)
    keys = torch.rand(6000, 3, generator=generator)
    relevance = torch.tensor([0.5, 0.9, 0.5]).expand(6000, 3)
    order = perturbation_order(relevance, "morf", keys)
    assert (order[:, 0] == 1).all()
    assert 0.45 < float((order[:, 1] == 0).double().mean()) < 0.55
    assert torch.equal(perturbation_order(relevance, "lerf", keys)[:, 2], order[:, 0])


def test_unknown_order_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="order='best' is unknown: choose one of morf, lerf"):
        perturbation_order(torch.zeros(1, 2), "best", torch.rand(1, 2))  # type: ignore[arg-type]
