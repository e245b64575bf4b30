"""Spans of an order: which locations are perturbed."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aopc_monitor.perturbation.spans import Spans


@given(st.integers(1, 12), st.data())
@settings(max_examples=50, deadline=None)
def test_exactly_the_ranks_from_the_first_to_before_the_last(
    regions: int, data: st.DataObject
) -> None:
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, regions)] * 2)))
    # Rank R is that of locations in no region.
    ranks = torch.randperm(regions + 1)[None].to(torch.int16)
    spans = Spans(torch.tensor([[first]]), torch.tensor([[last]]))
    zero = torch.tensor([0])
    found = spans.mask(ranks, zero, zero)[0]
    assert found.tolist() == [first <= rank < last for rank in ranks[0].tolist()]
    thinned = Spans(spans.first, spans.last, torch.tensor([[0.5]])).drawn(
        regions, torch.Generator().manual_seed(1)
    )
    assert thinned.chance is not None
    kept = [bool(mark) and float(thinned.chance[0, rank]) < 0.5
            for mark, rank in zip(found, ranks[0].tolist(), strict=True)]  # fmt: skip
    assert thinned.mask(ranks, zero, zero)[0].tolist() == kept


def test_each_image_has_its_own_and_a_group_keeps_them() -> None:
    spans = Spans(torch.tensor([[0], [1]]), torch.tensor([[1], [3]]), torch.ones(2, 1))
    ranks, number = torch.tensor([[0, 1, 2]]).expand(2, -1), torch.tensor([0, 0])
    both = spans.mask(ranks, torch.tensor([0, 1]), number)
    assert both.tolist() == [[True, False, False], [False, True, True]]
    second = spans.of_group(slice(1, 2))
    assert second.mask(ranks[:1], torch.tensor([0]), number[:1]).tolist() == both[1:].tolist()
    assert second.shares.tolist() == [[1.0]]
