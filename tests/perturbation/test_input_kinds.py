"""A kind of input tells all that the rest of the package asks of it."""

from __future__ import annotations

import pytest
import torch

from aopc_monitor.perturbation import INPUT_KINDS, InputKind, kind_of
from aopc_monitor.perturbation.input_kinds import checked_inputs

INPUTS = {"images": torch.rand(3, 2, 14, 11)}


@pytest.mark.parametrize("kind", INPUT_KINDS, ids=lambda kind: kind.name)
def test_a_kind_ranks_and_masks_the_regions_that_it_cuts(kind: InputKind) -> None:
    inputs = INPUTS[kind.name]
    assert kind_of(inputs) is kind
    heatmaps = inputs.mean(dim=1)
    regions = kind.regions(inputs, kind.suggested_region_size(inputs))
    relevance = kind.relevance(heatmaps, regions)
    assert relevance.shape == (len(inputs), regions.num_regions)
    order = relevance.argsort(dim=1, descending=True)
    ranks = kind.rank_map(order, regions)
    assert ranks.shape == (len(inputs), 1, *heatmaps.shape[1:])
    for k in (0, 1, regions.num_regions // 2, regions.num_regions):
        first = torch.zeros_like(relevance, dtype=torch.bool).scatter_(1, order[:, :k], True)
        assert torch.equal(kind.mask(first, regions), ranks < k)


@pytest.mark.parametrize("kind", INPUT_KINDS, ids=lambda kind: kind.name)
def test_values_and_means_of_channels(kind: InputKind) -> None:
    inputs = INPUTS[kind.name]
    values, means = kind.over_channels(inputs), kind.channel_means(inputs)
    assert values.shape == (inputs.shape[1], inputs.numel() // inputs.shape[1])
    assert torch.equal(values.amin(dim=1), inputs.movedim(1, 0).flatten(1).amin(dim=1))
    assert means.shape == inputs.shape
    torch.testing.assert_close(means.flatten(2).mean(2), inputs.flatten(2).mean(2))
    assert torch.equal(means, means.flatten(2)[..., :1].unsqueeze(-1).expand_as(means))


def test_what_is_of_no_kind_is_told_what_images_are() -> None:
    with pytest.raises(ValueError, match=r"images has shape \(3, 4\); wanted is \(N, C, H, W\)"):
        checked_inputs(torch.zeros(3, 4))
    with pytest.raises(TypeError, match="images is a list, not a tensor"):
        checked_inputs([1])
