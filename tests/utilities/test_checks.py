"""Checks of what came in."""

from __future__ import annotations

import pytest
import torch

from aopc_monitor.utilities.checks import are_finite


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_number_that_is_not_finite_is_found(value: float, dtype: torch.dtype) -> None:
    values = torch.rand(3, 40, 40, dtype=torch.float32).to(dtype)
    assert are_finite(values)
    values[1, 7, 30] = value
    assert not are_finite(values)


def test_infinities_of_both_signs_do_not_cancel() -> None:
    assert not are_finite(torch.tensor([float("inf"), -float("inf"), 1.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_numbers_whose_sum_is_out_of_range_are_finite(dtype: torch.dtype) -> None:
    assert are_finite(torch.full((10,), torch.finfo(dtype).max, dtype=dtype))


def test_values_may_want_a_gradient() -> None:
    assert are_finite(torch.ones(2, requires_grad=True))
