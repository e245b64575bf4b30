"""Pooling over channels, of which tables have none, and numbers that go with them."""

from __future__ import annotations

import pytest
import torch

from aopc_monitor.heatmaps.pooling import per_channel, pooled

SHAPES = [(2, 3, 5), (2, 3, 4, 5), (2, 3, 2, 4, 5)]


@pytest.mark.parametrize("shape", SHAPES)
def test_channels_are_pooled(shape: tuple[int, ...]) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pooled(values, "sum"), values[:, 0] + values[:, 1] + values[:, 2])
    torch.testing.assert_close(pooled(values, "l2"), values.square().sum(dim=1).sqrt())
    assert torch.equal(pooled(values, "linf"), values.abs().amax(dim=1))
    numbers = torch.tensor([1.0, 2.0, 3.0])
    for channel in range(3):
        beside = (values * per_channel(numbers, values))[:, channel]
        assert torch.equal(beside, values[:, channel] * (channel + 1))


def test_tables_have_one_number_per_feature() -> None:
    values = torch.tensor([[3.0, -4.0], [0.0, 1.0]])
    assert torch.equal(pooled(values, "sum"), values)
    assert torch.equal(pooled(values, "l2"), values.abs())
    assert torch.equal(pooled(values, "linf"), values.abs())
    assert torch.equal(per_channel(torch.tensor([1.0, 2.0]), values), torch.tensor([1.0, 2.0]))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_sum_is_that_of_torch_to_the_last_bit(channels: int, layout: torch.memory_format) -> None:
    values = torch.randn(2, channels, 9, 11).contiguous(memory_format=layout)
    assert torch.equal(pooled(values, "sum"), values.sum(dim=1))
