from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aopc_monitor.perturbation.linear import Linear

EDGE = torch.zeros(1, 1)


@given(
    known=st.lists(st.booleans(), min_size=1, max_size=12),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_lines_are_those_of_an_interpolation(
    known: list[bool], seed: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    series = torch.randn(1, 2, len(known), generator=generator, dtype=dtype)
    perturbed = ~torch.tensor(known)[None, None]
    g = Linear()
    made = g.impute(series, perturbed, g(series, EDGE, EDGE, generator), EDGE, EDGE)
    assert made.dtype == dtype
    places = np.flatnonzero(known)
    for channel, filled in zip(series[0].numpy(), made[0].numpy(), strict=True):
        if not len(places):
            expected = np.full_like(channel, channel.mean())
        else:
            expected = np.interp(np.arange(len(known)), places, channel[places])
        np.testing.assert_allclose(filled, expected, atol=1e-6)
    assert torch.equal(made[:, :, known], series[:, :, known])


def test_each_series_has_lines_of_its_own() -> None:
    series = torch.tensor([0.0, 5.0, 2.0]).expand(2, 1, 3)
    perturbed = torch.tensor([[False, True, False], [True, True, False]])[:, None]
    made = Linear().impute(series, perturbed, series, EDGE, EDGE)
    assert made.tolist() == [[[0.0, 1.0, 2.0]], [[2.0, 2.0, 2.0]]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_what_it_is(dtype: torch.dtype) -> None:
    series = torch.tensor([[[1.0, 9.0, 3.0]]], dtype=dtype)
    made = Linear().impute(series, series == 9, series, EDGE, EDGE)
    assert made.dtype == dtype
    assert made.tolist() == [[[1.0, 2.0, 3.0]]]
