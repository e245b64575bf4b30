"""`where` is that of torch, to the last bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aopc_monitor.utilities.where import where

ODD = [float("nan"), float("inf"), -float("inf"), -0.0, 0.0, 1e-40, 3.5]
DTYPES = [
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64),
    *(torch.int64, torch.int32, torch.uint8, torch.bool),
]


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_that_of_torch_bit_by_bit(dtype: torch.dtype, layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.tensor(ODD).nan_to_num() if not dtype.is_floating_point else torch.tensor(ODD)
    picked = [torch.randint(len(ODD), (5, 3, 4, 6), generator=generator) for _ in range(2)]
    first, second = (
        numbers[which].clamp(0, 200).to(dtype).contiguous(memory_format=layout)
        if not dtype.is_floating_point
        else numbers[which].to(dtype).contiguous(memory_format=layout)
        for which in picked
    )
    mask = torch.rand(5, 1, 4, 6, generator=generator) < 0.5
    for chosen in (mask, mask.expand_as(first)):
        found, expected = where(chosen, first, second), torch.where(chosen, first, second)
        assert found.dtype == expected.dtype
        assert bits(found) == bits(expected)


def test_neither_is_written_to_and_views_are_taken() -> None:
    first, second = torch.tensor([[1.0], [2.0]]).expand(2, 3), torch.arange(6.0).view(3, 2).T
    before = first.clone(), second.clone()
    mask = torch.tensor([[True, False, True]])
    assert torch.equal(where(mask, first, second), torch.where(mask, first, second))
    assert torch.equal(first, before[0])
    assert torch.equal(second, before[1])
