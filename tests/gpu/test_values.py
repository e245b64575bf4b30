"""A device finds what the CPU finds, within what its precision allows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet18

from aopc_monitor import heatmaps
from aopc_monitor.heatmaps import LRPEpsilon
from aopc_monitor.heatmaps.table import with_data_range
from benchmarks.calibration import calibrate, remove_constants
from tests.gpu.conftest import Within
from tests.gpu.networks import (
    SETTINGS,
    SIDES,
    curves,
    images,
    largest_error,
    network,
    relative_error,
)

CPU = torch.device("cpu")
# Autocast, TF32, and what a probability may differ by from that of the CPU in float32.
PRECISIONS: dict[str, tuple[torch.dtype | None, bool, float]] = {
    "float32": (None, False, 1e-4),
    "TF32": (None, True, 1e-2),
    "bfloat16": (torch.bfloat16, False, 8e-2),
    "float16": (torch.float16, False, 1e-2),
}
# What a heatmap may differ by, as a share of its norm; half precision is that of the model, which
# heatmaps are computed from in float32.
OF_HEATMAPS: dict[str, tuple[torch.dtype, bool, float]] = {
    "float32": (torch.float32, False, 1e-3),
    "TF32": (torch.float32, True, 1e-1),
    "bfloat16": (torch.bfloat16, False, 1e-2),
    "float16": (torch.float16, False, 3e-3),
}
# Their random numbers are drawn on the device of the images.
DRAWN = ("smoothgrad", "random")


def allow_tf32(is_allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = is_allowed
    torch.backends.cudnn.allow_tf32 = is_allowed


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", SIDES)
def test_curves(name: str, precision: str, device: torch.device, within: Within) -> None:
    autocast, tf32, tolerance = PRECISIONS[precision]
    x = images(name)
    expected = curves(network(name, CPU), x)
    allow_tf32(tf32)
    found = curves(network(name, device), x, autocast=autocast)
    within(largest_error(found, expected), tolerance)


def relevance(heatmap: str, x: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    make = with_data_range(heatmaps.get(heatmap), SETTINGS["data_range"])
    target = torch.arange(len(x)) % 4
    model = network("cnn", device).to(dtype)
    found = make(model, x.to(device, dtype), target.to(device))
    assert found.device.type == device.type
    return found


@pytest.mark.parametrize("precision", OF_HEATMAPS)
@pytest.mark.parametrize("heatmap", [name for name in heatmaps.names() if name not in DRAWN])
def test_heatmaps(heatmap: str, precision: str, device: torch.device, within: Within) -> None:
    dtype, tf32, tolerance = OF_HEATMAPS[precision]
    expected = relevance(heatmap, images(), CPU, dtype)
    allow_tf32(tf32)
    within(relative_error(relevance(heatmap, images(), device, dtype), expected), tolerance)


@pytest.mark.parametrize("heatmap", DRAWN)
def test_heatmaps_with_draws_come_again(heatmap: str, device: torch.device, within: Within) -> None:
    once, again = (relevance(heatmap, images(), device, torch.float32) for _ in range(2))
    assert once.std() > 0
    within(relative_error(once, again), 1e-5)


def test_lrp_conserves_relevance(device: torch.device, within: Within) -> None:
    """All of the score arrives where biases and shifts, which take their part, are zero."""
    torch.manual_seed(0)
    model, x = resnet18(weights=None).double().eval(), torch.randn(4, 3, 64, 64).double()
    remove_constants(model)
    calibrate(model, x)
    model, x = model.to(device), x[:2].to(device)
    scores, target = model(x).detach().max(dim=1)
    arrived = LRPEpsilon(1e-9)(model, x, target).sum(dim=(1, 2))
    within(float(((arrived - scores) / scores).abs().max()), 1e-6)


@pytest.mark.parametrize("heatmap", ["lrp", "deconvolution_l2", "attnlrp"])
@pytest.mark.parametrize("name", SIDES)
def test_check_reports_the_same(
    name: str, heatmap: str, device: torch.device, within: Within
) -> None:
    reports = [
        heatmaps.check(network(name, place), images(name).to(place), heatmap)
        for place in (CPU, device)
    ]
    expected, found = reports
    assert found.operations == expected.operations
    assert found.without_rule == expected.without_rule
    assert found.is_fine
    assert expected.is_fine
    within(abs((found.conservation_error or 0) - (expected.conservation_error or 0)), 1e-3)
