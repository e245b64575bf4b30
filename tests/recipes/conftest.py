"""Data and a network that are quickly made, for the commands of several recipes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recipes.shared.data import datasets
from recipes.shared.data.labelled_images import ImageData
from recipes.shared.training.networks import build


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> ImageData:
    """Few digits on clutter, in the place of what a command would load."""
    data = datasets.digits(train_size=64, test_size=40)
    monkeypatch.setattr("recipes.shared.arguments.load", lambda *args, **kwargs: data)
    return data


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """The file of a small network that was not trained."""
    torch.manual_seed(0)
    network = build("small_cnn", 10, 32)
    for parameter in network.parameters():
        parameter.data *= 2  # so that predictions are worth losing
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    return str(tmp_path / "weights.pt")
