from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aopc_monitor.perturbation.regions import Grid, perturbation_order
from tests.reference import regions_of

sides = st.integers(1, 24)


@given(height=sides, width=sides, region_size=st.integers(1, 24), seed=st.integers(0, 1000))
def test_step_k_perturbs_exactly_the_first_k_regions(
    height: int, width: int, region_size: int, seed: int
) -> None:
    if region_size > min(height, width):
        with pytest.raises(ValueError, match=f"region_size={region_size} does not fit"):
            Grid((height, width), region_size)
        return
    grid = Grid((height, width), region_size)
    assert grid.num_regions == (height // region_size) * (width // region_size)
    order = torch.randperm(grid.num_regions, generator=torch.Generator().manual_seed(seed))[None]
    ranks = grid.rank_map(order)[0]
    expected = torch.full((height, width), grid.num_regions, dtype=torch.int16)
    places = regions_of(grid)
    for k, region in enumerate(order[0].tolist()):
        expected[places[region]] = k
    assert torch.equal(ranks, expected)
    # The free border is split evenly.
    assert 0 <= (height - grid.counts[0] * region_size) - 2 * grid.margins[0] <= 1
    assert 0 <= (width - grid.counts[1] * region_size) - 2 * grid.margins[1] <= 1


@pytest.mark.parametrize(("side", "dtype"), [(181, torch.int16), (182, torch.int32)])
def test_ranks_are_counted_exactly_however_many_there_are(side: int, dtype: torch.dtype) -> None:
    grid = Grid((side, side), 1)
    ranks = grid.rank_map(torch.arange(grid.num_regions)[None])
    assert ranks.dtype == dtype
    assert torch.equal(ranks.flatten(), torch.arange(side**2, dtype=dtype))


def test_relevance_is_the_mean_over_a_region() -> None:
    heatmaps = torch.rand(2, 11, 7)
    grid = Grid((11, 7), 3)
    expected = torch.stack([heatmaps[:, r, c].mean(dim=(1, 2)) for r, c in regions_of(grid)], 1)
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
