from __future__ import annotations

import pytest
import torch

from aopc_monitor import heatmaps
from recipes.shared.training.series_networks import PACE, SERIES_NETWORKS


@pytest.mark.parametrize("name", SERIES_NETWORKS)
def test_relevance_of_every_step_sums_to_the_logit_without_biases(name: str) -> None:
    torch.manual_seed(0)
    network = SERIES_NETWORKS[name](3, 4).double().eval()
    for key, parameter in network.named_parameters():
        if "bias" in key:
            torch.nn.init.zeros_(parameter)
    series, target = torch.rand(5, 3, 20).double(), torch.tensor([0, 1, 2, 3, 0])
    relevance = heatmaps.LRPEpsilon(epsilon=1e-9)(network, series, target)
    logits = network(series).gather(1, target[:, None])[:, 0]
    assert relevance.shape == (5, 20)
    assert torch.allclose(relevance.sum(dim=1), logits, atol=1e-6)


def test_every_network_has_a_pace() -> None:
    assert PACE.keys() == SERIES_NETWORKS.keys()
