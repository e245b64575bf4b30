"""Regions of the user's own: which they are, how relevant, and what a step perturbs of them."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from aopc_monitor.perturbation.input_kinds import missing_last
from aopc_monitor.perturbation.protocol import PerturbationProtocol
from aopc_monitor.perturbation.protocol_choices import ProtocolChoices
from aopc_monitor.perturbation.region_map import GivenRegions, RegionMap


@st.composite
def maps(draw: st.DrawFn) -> Tensor:
    """`(N, *space)` numbers without a gap, from one region to as many as there are locations."""
    space = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    locations = math.prod(space)
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        numbers = st.lists(st.integers(-1, 6), min_size=locations, max_size=locations)
        row = torch.tensor(draw(numbers.filter(lambda row: max(row) >= 0)))
        is_one = row >= 0
        row[is_one] = row[is_one].unique(return_inverse=True)[1]
        rows.append(row.view(space))
    return torch.stack(rows)


@given(numbers=maps(), seed=st.integers(0, 1000))
def test_step_k_perturbs_exactly_the_first_k_regions(numbers: Tensor, seed: int) -> None:
    regions = RegionMap.of(GivenRegions(numbers), numbers.shape)
    assert regions.numbers is not None
    assert regions.numbers.tolist() == [int(row.max()) + 1 for row in numbers]
    keys = torch.rand(
        len(numbers), regions.num_regions, generator=torch.Generator().manual_seed(seed)
    )
    order = missing_last(keys.argsort(dim=1), regions.numbers)
    ranks = regions.rank_map(order)
    assert ranks.shape == numbers.shape
    for n, (row, count) in enumerate(zip(numbers, regions.numbers.tolist(), strict=True)):
        # The regions that an input has come first, in the order of the keys.
        assert order[n, :count].tolist() == keys[n, :count].argsort().tolist()
        for k in range(count + 1):
            perturbed = torch.isin(row, order[n, :k])
            assert torch.equal(ranks[n] < k, perturbed)
            chosen = torch.zeros(1, regions.num_regions, dtype=torch.bool)
            chosen[0, order[n, :k]] = True
            assert torch.equal(regions.mask(chosen, torch.tensor([n]))[0], perturbed)
        assert (ranks[n][row < 0] == regions.num_regions).all()


@given(numbers=maps(), seed=st.integers(0, 1000))
def test_relevance_is_the_mean_or_the_sum_over_a_region(numbers: Tensor, seed: int) -> None:
    heatmaps = torch.randn(numbers.shape, generator=torch.Generator().manual_seed(seed))
    for name in ("mean", "sum"):
        found = RegionMap.of(GivenRegions(numbers), numbers.shape, "cpu", name).relevance(heatmaps)  # type: ignore[arg-type]
        for of_input, row, heatmap in zip(found, numbers, heatmaps, strict=True):
            for region, value in enumerate(of_input.tolist()):
                inside = heatmap[row == region].double()
                expected = float(getattr(inside, name)()) if len(inside) else 0.0
                assert value == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(value=st.floats(-1e6, 1e6), numbers=maps())
def test_equal_locations_give_equal_regions_whatever_their_sizes(
    value: float, numbers: Tensor
) -> None:
    heatmaps = torch.full(numbers.shape, value, dtype=torch.float64)
    regions = RegionMap.of(GivenRegions(numbers), numbers.shape)
    for of_input, count in zip(regions.relevance(heatmaps), regions.counts, strict=True):
        assert (of_input[: int(count)] == value).all()


@given(numbers=maps(), data=st.data())
def test_a_number_that_is_skipped_is_told(numbers: Tensor, data: st.DataObject) -> None:
    image = data.draw(st.integers(0, len(numbers) - 1))
    most = int(numbers[image].max())
    skipped = data.draw(st.integers(0, most))
    numbers[image][numbers[image] >= skipped] += 1
    with pytest.raises(ValueError, match=f"regions skips number {skipped} in input {image}, which"):
        RegionMap.of(GivenRegions(numbers), numbers.shape)


def test_one_map_serves_all_inputs() -> None:
    shared = RegionMap.of(GivenRegions([[0, 0], [1, -1]]), (3, 2, 2))
    assert shared.numbers is None
    assert shared.counts.tolist() == [2, 2, 2]
    relevance = shared.relevance(torch.arange(12.0).view(3, 2, 2))
    assert relevance.tolist() == [[0.5, 2.0], [4.5, 6.0], [8.5, 10.0]]
    assert shared.text("features") == "features of your own (2 each)"
    assert shared.text("words") == "words (2 each)"


def test_given_maps_are_told_apart_by_their_numbers() -> None:
    one, other = torch.arange(5000), torch.arange(5000)
    other[2500] = 0
    same = GivenRegions(np.arange(5000, dtype=np.int32))
    assert GivenRegions(one) == same
    assert repr(GivenRegions(one)) == repr(same)
    assert hash(GivenRegions(one)) == hash(same)
    assert GivenRegions(other) != same
    assert repr(GivenRegions(other)) != repr(same)
    assert copy.deepcopy(same) == pickle.loads(pickle.dumps(same)) == same


def test_texts_of_earlier_versions_compare() -> None:
    """States that 0.1.0 has left add up with those of this one, where nothing else was chosen."""
    text = repr(PerturbationProtocol(4, 8, (0.0, 1.0)).comparable())
    assert text == (
        "PerturbationProtocol(region_size=4, steps=8, data_range=(0.0, 1.0), "
        "replacement='uniform', repeats=1, sampled_steps=None, score='probability', "
        "execution=Execution(chunk_size=None, channels_last=None, autocast=None, compiled=False), "
        "output_fn=None)"
    )
    own = PerturbationProtocol(None, 8, (0.0, 1.0), regions=[0, 1], step_is="share")  # type: ignore[arg-type]
    assert ", regions=GivenRegions((2,), " in repr(own)
    assert repr(own).endswith(", step_is='share')")


@pytest.mark.parametrize(("given", "number"), [
    ({"regions": lambda x: torch.arange(10).expand(len(x), 10)}, 10),
    ({"regions": list(range(10))}, 5),
    ({"regions": list(range(10)), "step_is": "share"}, 10),
    ({}, 5),
])  # fmt: skip
def test_as_many_steps_as_suit_the_regions(given: dict[str, Any], number: int) -> None:
    protocol = ProtocolChoices(replacement="constant", **given).for_images(torch.rand(4, 10))
    assert protocol.steps == number
    assert protocol.region_size is None
