from __future__ import annotations

from argparse import Namespace

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from recipes.label_free_limits.answers import Answers, answers_of, pooled_features
from recipes.shared.training.fitting import new_trainer
from recipes.shared.training.networks import build

CPU = Namespace(
    max_epochs=None, accelerator="cpu", devices="1", strategy="auto", precision="32-true"
)


class Asks(pl.LightningModule):
    """Collects the answers in a predict loop, where a trainer has its strategy."""

    def __init__(self, network: nn.Module, loader: DataLoader[tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.network, self.loader = network, loader
        self.found: Answers | None = None

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits

    def predict_step(self, batch: object, batch_idx: int) -> None:
        self.found = answers_of(self.trainer, self, self.network, self.loader)


@pytest.mark.parametrize("name", ["small_cnn", "small_resnet", "small_vit"])
def test_answers_are_logits_and_the_features_before_them(name: str) -> None:
    torch.manual_seed(0)
    network = build(name, 5, 16)
    images = torch.randn(7, 3, 16, 16)
    loader = DataLoader(TensorDataset(images, torch.zeros(7)), batch_size=3)
    asks = Asks(network, loader)
    trainer = new_trainer(CPU, 1, use_distributed_sampler=False, enable_progress_bar=False)
    trainer.predict(asks, DataLoader(range(1)), return_predictions=False)  # type: ignore[arg-type]
    assert asks.found is not None
    network.eval()
    with torch.no_grad():
        logits = network(images)
    torch.testing.assert_close(asks.found.logits, logits, rtol=1e-4, atol=1e-5)
    assert asks.found.features.shape == (7, 128 if name != "small_vit" else 64)
    if name == "small_vit":  # a single linear layer follows
        again = network.heads(asks.found.features)  # type: ignore[operator]
        torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-5)


def test_features_leave_no_hook_behind() -> None:
    network = build("small_cnn", 5, 16)
    with pytest.raises(RuntimeError, match="stop"), pooled_features(network):
        raise RuntimeError("stop")
    assert not network.features._forward_hooks  # type: ignore[union-attr]


def test_a_network_without_features_is_named() -> None:
    with pytest.raises(ValueError, match="no part `features` and no linear layer"):
        pooled_features(nn.Conv2d(3, 2, 1)).__enter__()
