from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from recipes.shared.data.labelled_tensors import LabelledTensors


def test_batches_are_float32_with_whole_labels() -> None:
    tensors = torch.arange(12, dtype=torch.float64).view(4, 1, 3)
    data = LabelledTensors(tensors, torch.tensor([0, 1, 1, 0], dtype=torch.int32), ["a", "b"])
    (series, labels) = next(iter(DataLoader(data, batch_size=3)))
    assert series.dtype == torch.float32
    assert torch.equal(series.double(), tensors[:3])
    assert labels.tolist() == [0, 1, 1]
    assert labels.dtype == torch.int64


def test_one_label_for_each_tensor() -> None:
    with pytest.raises(ValueError, match=r"labels has shape \(3,\) for 4 tensors"):
        LabelledTensors(torch.rand(4, 1, 3), torch.zeros(3))


def test_numbers_of_words_stay_numbers() -> None:
    data = LabelledTensors(torch.tensor([[3, 2], [4, 1]]), torch.tensor([0, 1]))
    assert data[1][0].tolist() == [4, 1]
    assert data[1][0].dtype == torch.int64
