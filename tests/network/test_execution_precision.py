"""Autocast of the forwards that give scores: used there only, and close in value."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import AOPC
from aopc_monitor.network import execution
from aopc_monitor.network.execution import Execution
from tests.network.test_execution import CHUNKS, NETWORKS, SETTINGS, area, images, logged, plain


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_autocast_is_used_and_comes_close(make: Callable[[], nn.Module]) -> None:
    model = logged(make)
    exact = area(model)
    assert set(model.log.dtypes) == {torch.float32}
    model.log.dtypes.clear()
    rough = area(model, autocast=torch.bfloat16)
    assert model.log.dtypes == [torch.bfloat16] * CHUNKS
    assert abs(float(rough.mean - exact.mean)) < 0.02
    assert not torch.equal(rough.curves, exact.curves)
    assert rough.per_image.dtype == torch.float64


def test_heatmaps_are_made_in_full_precision() -> None:
    made: list[Tensor] = []

    def gradient(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        x = x.requires_grad_()
        scores = model(x).gather(1, target[:, None]).sum()
        made.append(torch.autograd.grad(scores, x)[0].mean(dim=1))
        return made[-1]

    model = logged(plain)
    for autocast in (None, torch.bfloat16):
        AOPC(gradient, execution=Execution(autocast=autocast), **SETTINGS).update(model, images())
    assert torch.equal(*made)


@pytest.mark.parametrize("wrong", [torch.float64, torch.float32, "bf16", True])
def test_other_precisions_are_an_error(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"autocast=.* give torch\.bfloat16 or torch\.float16"):
        Execution(autocast=wrong)


def warned_of(device_type: str, dtype: torch.dtype) -> Any:
    """What torch does for a precision that a device has not."""
    warnings.warn("In CPU autocast, but the target dtype is not supported", stacklevel=2)
    return nullcontext()


def ignored(device_type: str, dtype: torch.dtype) -> Any:
    return nullcontext()


@pytest.mark.parametrize("autocast", [warned_of, ignored])
def test_a_device_without_the_precision_is_an_error(
    autocast: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution._check_autocast.cache_clear()
    monkeypatch.setattr(torch, "autocast", autocast)
    message = r"autocast=torch\.bfloat16: this device \(cpu\) does not"
    with warnings.catch_warnings(record=True) as told, pytest.raises(ValueError, match=message):
        area(plain(), autocast=torch.bfloat16)
    assert not told  # once is enough
