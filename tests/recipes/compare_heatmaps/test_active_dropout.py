from __future__ import annotations

import pytest
import torch
from torch import nn

from aopc_monitor import heatmaps
from recipes.compare_heatmaps.active_dropout import ActiveDropout, restart, with_active_dropout
from recipes.shared.training.networks import build


def test_only_dropout_changes_and_only_in_the_copy() -> None:
    network = build("small_resnet", 10, 16).eval()
    before, images = str(network), torch.rand(4, 3, 16, 16)
    plain = network(images)
    active = with_active_dropout(network).eval()
    assert str(network) == before
    assert not torch.equal(active(images), plain)
    assert all(not module.training for module in active.modules())
    for module in active.modules():
        if isinstance(module, ActiveDropout):
            module.probability = 0.0
    torch.testing.assert_close(active(images), plain)


def test_numbers_are_its_own_and_start_again() -> None:
    active = with_active_dropout(build("small_cnn", 10, 16)).eval()
    images, state = torch.rand(4, 3, 16, 16), torch.get_rng_state()
    restart(active, 3)
    first, second = active(images), active(images)
    restart(active, 3)
    assert torch.equal(active(images), first)
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_whole_channels_are_dropped() -> None:
    active = with_active_dropout(nn.Sequential(nn.Dropout2d(0.5)))
    of_channels = active(torch.ones(64, 8, 3, 3)).flatten(2)
    assert (of_channels == of_channels[:, :, :1]).all()
    assert set(of_channels.unique().tolist()) == {0.0, 2.0}


def test_relevance_is_conserved_through_it() -> None:
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(12, 8, bias=False), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(8, 3, bias=False),
    )  # fmt: skip
    active = with_active_dropout(network).double().eval()
    images, target = torch.rand(5, 3, 2, 2).double(), torch.zeros(5, dtype=torch.long)
    restart(active, 0)
    relevance = heatmaps.LRPEpsilon(epsilon=1e-12)(active, images, target)
    restart(active, 0)
    expected = active(images)[:, 0]
    torch.testing.assert_close(relevance.sum(dim=(1, 2)), expected.detach())


@pytest.mark.parametrize("network", [nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.0))])
def test_a_network_without_dropout_is_named(network: nn.Module) -> None:
    with pytest.raises(ValueError, match="has no dropout module that could be active"):
        with_active_dropout(network)
