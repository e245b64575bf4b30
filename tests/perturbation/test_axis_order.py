"""Inputs whose dimensions stand in another order than they are taken in are doubted aloud."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from aopc_monitor import AOPC, area_over_perturbation_curve, estimate_aopc
from aopc_monitor.perturbation import ProtocolChoices
from aopc_monitor.perturbation.axis_order import axis_doubt

TURNED = {
    "series of few steps": (4, 64, 6),
    "as many steps as channels": (4, 16, 16),
    "images with the channels last": (4, 16, 16, 3),
    "grey images with the channel last": (4, 16, 20, 1),
    "videos with the frames first": (4, 8, 3, 16, 16),
}
USUAL = {
    "series": (4, 12, 100),
    "images": (4, 3, 16, 16),
    "many channels": (4, 16, 8, 8),
    "sensors along a side": (4, 1, 64, 3),
    "volumes": (4, 1, 6, 12, 10),
    "video": (4, 3, 8, 16, 16),
    "a few layers": (4, 1, 3, 16, 16),
    "table": (4, 10),
}


@pytest.mark.parametrize("shape", TURNED.values(), ids=TURNED)
def test_what_looks_turned_is_told_with_its_shape(shape: tuple[int, ...]) -> None:
    doubt = axis_doubt(torch.rand(shape))
    assert doubt is not None
    assert doubt.startswith(f"images of shape {shape} are taken for ")
    assert "images_fn= and model_fn=" in doubt


@pytest.mark.parametrize("shape", USUAL.values(), ids=USUAL)
def test_what_does_not_is_left_in_peace(shape: tuple[int, ...]) -> None:
    assert axis_doubt(torch.rand(shape)) is None
    assert axis_doubt(torch.zeros(4, 12, dtype=torch.long)) is None


def test_a_metric_warns_at_its_first_batch_alone() -> None:
    network, series = nn.Sequential(nn.Flatten(), nn.Linear(64 * 6, 3)), torch.rand(4, 64, 6)
    metric = AOPC("sensitivity_l2", region_size=1, steps=2, data_range=(0.0, 1.0))
    with pytest.warns(UserWarning, match=r"6 time steps with 64 channels each: if they are"):
        metric.update(network, series)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric.update(network, series)


def test_the_function_the_estimate_and_the_monitor_warn() -> None:
    network, images = nn.Sequential(nn.Flatten(), nn.Linear(768, 3)), torch.rand(4, 16, 16, 3)
    settings = {"region_size": 1, "steps": 2, "data_range": (0.0, 1.0)}
    with pytest.warns(UserWarning, match=r"if they are \(N, H, W, C\)"):
        area_over_perturbation_curve(network, images, images.mean(dim=1), **settings)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match=r"if they are \(N, H, W, C\)"):
        estimate_aopc(network, [images], "sensitivity_l2", **settings)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match=r"if they are \(N, H, W, C\)"):
        ProtocolChoices(data_range=(0.0, 1.0)).for_images(images)
