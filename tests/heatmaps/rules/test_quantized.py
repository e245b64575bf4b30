"""Quantised networks: the heatmaps of networks whose numbers are rounded."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor import heatmaps
from aopc_monitor.heatmaps import DeepLIFT, Heatmap, LRPAlphaBeta, LRPEpsilon, LRPEpsilonPlus

quantization = pytest.importorskip("torch.ao.quantization")
TARGET = torch.tensor([0, 1, 2])


def images() -> Tensor:
    return torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))


class Network(nn.Module):
    """Convolutions with a shortcut, to be quantised."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.begin, self.end = quantization.QuantStub(), quantization.DeQuantStub()
        self.first, self.relu = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()
        self.second, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(128, 5)
        self.sum = torch.ao.nn.quantized.FloatFunctional()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(self.begin(x)))
        x = F.adaptive_avg_pool2d(self.sum.add(x, self.second(x)), 4)
        outputs: Tensor = self.end(self.head(x.flatten(1)))
        return outputs


def quietly(function: Any, *arguments: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this way to quantise is to be replaced
        return function(*arguments, **options)


def quantized(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model).eval()
    model = quietly(quantization.fuse_modules, model, [["first", "relu"]])
    model.qconfig = quantization.get_default_qconfig(torch.backends.quantized.engine)
    prepared = quietly(quantization.prepare, model)
    prepared(images())
    return quietly(quantization.convert, prepared)  # type: ignore[no-any-return]


@pytest.mark.parametrize("heatmap", [LRPEpsilon(), LRPEpsilonPlus(), LRPAlphaBeta()], ids=str)
def test_a_quantised_network_is_explained_by_what_it_means(heatmap: Heatmap) -> None:
    model = Network().eval()
    integers = quantized(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours, expected = (heatmap(m, images(), TARGET) for m in (integers, model))
    pair = torch.stack([ours.flatten(), expected.flatten()])
    assert torch.corrcoef(pair)[0, 1] > 0.95
    report = heatmaps.check(integers, images(), heatmap, TARGET)
    assert report.is_fine, report.line()
    assert "quantized::conv2d_relu" in [use.name for use in report.operations]


def test_layers_that_quantise_as_they_go() -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(432, 5)).eval()
    dynamic = quietly(quantization.quantize_dynamic, plain, {nn.Linear}, dtype=torch.qint8)
    report = heatmaps.check(dynamic, images(), LRPEpsilon(), TARGET)
    assert report.is_fine, report.line()
    ours, expected = (LRPEpsilon()(m, images(), TARGET) for m in (dynamic, plain))
    assert torch.corrcoef(torch.stack([ours.flatten(), expected.flatten()]))[0, 1] > 0.95


GRID = (0.1, 3, 0, 15)
BY_CHANNEL = (torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0, 1, 2], dtype=torch.int32), 1, 0, 15)


@pytest.mark.parametrize("heatmap", [LRPEpsilon(1e-9), DeepLIFT()], ids=str)
@pytest.mark.parametrize(
    "rounded",
    [
        lambda x: torch.fake_quantize_per_tensor_affine(x, *GRID),
        lambda x: torch.fake_quantize_per_channel_affine(x, *BY_CHANNEL),
    ],
)
def test_rounding_to_a_grid_passes_relevance_on(rounded: Any, heatmap: Heatmap) -> None:
    """Also where the grid ends, and its gradient."""

    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.head = nn.Linear(432, 5, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.head(rounded(3 * x - 0.5).flatten(1))
            return outputs

    model = Rounded().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = heatmap(model, images(), TARGET)
    weight = model.head.weight[TARGET].view(3, 3, 12, 12).detach()
    difference = rounded(3 * images() - 0.5)
    if isinstance(heatmap, DeepLIFT):
        expected = weight * (difference - rounded(torch.full_like(images(), -0.5)))
    else:  # what -0.5 takes is in proportion
        expected = weight * difference * 3 * images() / (3 * images() - 0.5)
    torch.testing.assert_close(ours, expected.sum(1), rtol=1e-3, atol=1e-5)


def test_training_with_rounding_can_be_watched() -> None:
    model = Network().train()
    model.qconfig = quantization.get_default_qat_qconfig(torch.backends.quantized.engine)
    model = quietly(quantization.prepare_qat, model)
    model(images())
    model.eval().apply(quantization.disable_observer)
    report = heatmaps.check(model, images(), LRPEpsilon(), TARGET)
    assert report.is_fine, report.line()
