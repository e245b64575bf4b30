"""Hooks that users put on modules and tensors, as wandb.watch does, see no relevance."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_full_backward_hook

from aopc_monitor import heatmaps

NAMES = [name for name in heatmaps.names() if name not in ("random", "occlusion")]


def images() -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    """Nothing in it works in place, which torch itself refuses behind such hooks."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(body, nn.Flatten(), nn.Linear(4 * 7 * 7, 5)).eval()


def heatmap_of(name: str) -> heatmaps.Heatmap:
    return heatmaps.with_data_range(heatmaps.get(name), (0.0, 1.0))


def hook_modules(model: nn.Module, calls: list[Any]) -> list[Any]:
    return [
        module.register_full_backward_hook(lambda *given: calls.append(given))
        for module in model.modules()
    ]


def hook_before_modules(model: nn.Module, calls: list[Any]) -> list[Any]:
    return [
        module.register_full_backward_pre_hook(lambda *given: calls.append(given))
        for module in model.modules()
    ]


def hook_all_modules(model: nn.Module, calls: list[Any]) -> list[Any]:
    return [register_module_full_backward_hook(lambda *given: calls.append(given))]


def hook_tensors(model: nn.Module, calls: list[Any]) -> list[Any]:
    def watch(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(calls.append)

    return [module.register_forward_hook(watch) for module in model.modules()]


@pytest.mark.parametrize("way", [hook_modules, hook_before_modules, hook_all_modules, hook_tensors])
@pytest.mark.parametrize("name", NAMES)
def test_heatmaps_are_those_without_hooks(name: str, way: Any) -> None:
    model, x, target = network(), images(), torch.tensor([0, 1])
    heatmap = heatmap_of(name)
    wanted = heatmap(model, x, target)
    calls: list[Any] = []
    handles = way(model, calls)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = heatmap(model, x, target)
        assert calls == []
        torch.testing.assert_close(found, wanted)
        # Afterwards they are where they were, and see the gradients of the training.
        model(x).sum().backward()
        assert calls != []
    finally:
        for handle in handles:
            handle.remove()
