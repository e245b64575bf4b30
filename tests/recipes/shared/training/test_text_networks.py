from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from aopc_monitor.heatmaps import DeepLIFT
from recipes.shared.data.labelled_texts import PADDING
from recipes.shared.training.text_networks import TextCNN, TextLSTM


def test_max_pooling_gives_the_same_logits() -> None:
    network, ids = TextCNN(20, 3).eval(), torch.randint(20, (4, 12))
    logits = network(ids)
    network.pooled = True
    assert torch.equal(network(ids), logits)


@pytest.mark.parametrize(
    "network", [TextLSTM(20, 3), TextCNN(20, 3, pooled=True)], ids=["lstm", "cnn"]
)
def test_deeplift_adds_up_to_the_difference_from_no_words(network: nn.Module) -> None:
    network, ids = network.eval(), torch.randint(1, 20, (4, 12))
    target = torch.tensor([0, 1, 2, 0])[:, None]
    drops = (network(ids) - network(torch.full_like(ids, PADDING))).gather(1, target)[:, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        relevance = DeepLIFT()(network, ids, target[:, 0])
    torch.testing.assert_close(relevance.sum(dim=1), drops.detach(), rtol=1e-4, atol=1e-5)
