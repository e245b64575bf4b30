"""A kind of input tells all that the rest of the package asks of it."""

from __future__ import annotations

import pytest
import torch

from aopc_monitor.perturbation import INPUT_KINDS, InputKind, kind_of
from aopc_monitor.perturbation.input_kinds import checked_inputs

INPUTS = {
    "images": torch.rand(3, 2, 14, 11),
    "series": torch.rand(3, 2, 23),
    "volumes": torch.rand(3, 2, 9, 8, 11),
    "tables": torch.rand(3, 6),
    "texts": torch.randint(0, 50, (3, 7)),
}


@pytest.mark.parametrize("kind", INPUT_KINDS, ids=lambda kind: kind.name)
def test_a_kind_ranks_and_masks_the_regions_that_it_cuts(kind: InputKind) -> None:
    inputs = INPUTS[kind.name]
    assert kind_of(inputs) is kind
    heatmaps = torch.rand(kind.locations(inputs))
    kind.check_heatmaps(heatmaps, kind.checked(inputs))
    regions = kind.regions(inputs, kind.suggested_region_size(inputs))
    relevance = regions.relevance(heatmaps)
    assert relevance.shape == (len(inputs), regions.num_regions)
    order = relevance.argsort(dim=1, descending=True)
    ranks = regions.rank_map(order)
    assert ranks.shape == heatmaps.shape
    assert torch.where(kind.beside(ranks) < 1, 0.0, inputs).shape == inputs.shape
    for k in (0, 1, regions.num_regions // 2, regions.num_regions):
        first = torch.zeros_like(relevance, dtype=torch.bool).scatter_(1, order[:, :k], True)
        assert torch.equal(regions.mask(first, torch.arange(3)), ranks < k)


@pytest.mark.parametrize("kind", [k for k in INPUT_KINDS if k.is_dense], ids=lambda kind: kind.name)
def test_values_and_means_of_channels(kind: InputKind) -> None:
    inputs = INPUTS[kind.name]
    values, means = kind.over_channels(inputs), kind.channel_means(inputs)
    assert values.shape == (inputs.shape[1], inputs.numel() // inputs.shape[1])
    assert torch.equal(values.amin(dim=1), inputs.movedim(1, 0).flatten(1).amin(dim=1))
    assert means.shape == inputs.shape
    if kind.has_channels:
        torch.testing.assert_close(means.flatten(2).mean(2), inputs.flatten(2).mean(2))
        flat = means.flatten(2)
        assert torch.equal(flat, flat[..., :1].expand_as(flat))


def test_what_is_of_no_kind_is_told_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"has shape \(3,\); wanted is \(N, C, H, W\) for images"):
        checked_inputs(torch.zeros(3))
    with pytest.raises(TypeError, match="images is a list, not a tensor"):
        checked_inputs([1])
    with pytest.raises(TypeError, match=r"images is torch\.uint8; give floating-point series"):
        checked_inputs(torch.zeros(1, 2, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"images is empty, of shape \(0, 2, 3\): .* \(N, C, L\)"):
        checked_inputs(torch.zeros(0, 2, 3))
