"""Networks in half precision that keep tensors beside their parameters for eval mode."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import AOPC, heatmaps
from aopc_monitor.heatmaps import LRPEpsilon, Sensitivity


class Cached(nn.Module):
    """Adds a bias that is gathered once and kept: in a dict, a list, or an attribute."""

    def __init__(self, keep: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5)
        self.table = nn.Parameter(torch.randn(9))
        self.keep = keep
        self.cache: dict[str, Tensor] = {}
        self.caches: list[Tensor] = []
        self.kept: Tensor | None = None

    def bias(self) -> Tensor:
        found: Any = {"dict": self.cache.get("bias"), "list": next(iter(self.caches), None)}
        if found.get(self.keep, self.kept) is None:
            made = self.table[torch.arange(64) % 9].view(8, 8)
            if self.training:
                return made
            self.cache["bias"] = self.kept = made
            self.caches.append(made)
        found = {"dict": self.cache["bias"], "list": self.caches[0], "attribute": self.kept}
        result: Tensor = found[self.keep]
        return result

    def forward(self, x: Tensor) -> Tensor:
        values = self.first(x)
        weights = torch.nn.functional.scaled_dot_product_attention(
            values, values, values, attn_mask=self.bias()
        )
        outputs: Tensor = self.last(weights.relu().mean((2, 3)))
        return outputs


def images() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).bfloat16()


@pytest.mark.parametrize("keep", ["dict", "list", "attribute"])
@pytest.mark.parametrize("heatmap", [LRPEpsilon(), Sensitivity()], ids=str)
def test_what_is_kept_in_half_precision_is_widened_too(heatmap: Any, keep: str) -> None:
    model = Cached(keep).bfloat16().eval()
    expected = heatmap(copy.deepcopy(model), images(), torch.tensor([0, 1]))
    with torch.no_grad():
        model(images())
    before = (model.kept, dict(model.cache), list(model.caches))
    ours = heatmap(model, images(), torch.tensor([0, 1]))
    torch.testing.assert_close(ours, expected)
    assert model.kept is before[0]
    assert model.cache["bias"] is before[1]["bias"]
    assert model.caches[0] is before[2][0]
    assert model.kept is not None
    assert model.kept.dtype == torch.bfloat16


def test_an_evaluation_fills_the_cache_before_the_heatmap_meets_it() -> None:
    model = Cached("dict").bfloat16().train()
    metric = AOPC(heatmaps.get("lrp"), region_size=2, steps=2, data_range=(-2, 2))
    metric.update(model, images())
    assert bool(torch.isfinite(metric.compute()))
    assert not model.cache


class Recurrent(nn.Module):
    """A recurrent layer, which keeps a list of its parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.last = nn.GRU(24, 6, batch_first=True), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.last(self.layer(x.transpose(1, 2).flatten(2))[0].mean(1))
        return outputs


@pytest.mark.parametrize("heatmap", [LRPEpsilon(), Sensitivity()], ids=str)
def test_recurrent_layers_in_half_precision(heatmap: Any) -> None:
    model = Recurrent().bfloat16().eval()
    listed = list(model.layer._flat_weights)
    ours = heatmap(model, images(), torch.tensor([0, 1]))
    wide = copy.deepcopy(model).float()
    torch.testing.assert_close(ours, heatmap(wide, images().float(), torch.tensor([0, 1])))
    assert all(a is b for a, b in zip(model.layer._flat_weights, listed, strict=True))
