from __future__ import annotations

import pytest
import torch

from aopc_monitor.perturbations import (
    Blur,
    Constant,
    Mean,
    Uniform,
    data_range_tensors,
    get_replacement,
    normalized_data_range,
)

LOW, HIGH = data_range_tensors(([-1.0, 0.0, 2.0], [1.0, 5.0, 4.0]), channels=3)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_uniform_fills_the_range_of_each_channel() -> None:
    noise = Uniform()(torch.zeros(64, 3, 16, 16), LOW, HIGH, generator())
    for channel in range(3):
        values = noise[:, channel]
        low, high = float(LOW[channel]), float(HIGH[channel])
        assert low <= float(values.min()) < low + 0.01
        assert high - 0.01 < float(values.max()) <= high
        assert abs(float(values.mean()) - (low + high) / 2) < 0.05
        assert abs(float(values.var()) - (high - low) ** 2 / 12) < 0.1


def test_uniform_is_independent_per_pixel_and_channel() -> None:
    noise = Uniform()(torch.zeros(1, 3, 8, 8), LOW, HIGH, generator())
    unit = (noise - LOW) / (HIGH - LOW)
    assert len(unit.flatten().unique()) > 180


def test_every_precision_sees_the_same_noise() -> None:
    with_default_dtype = Uniform()(torch.zeros(1, 3, 8, 8), LOW, HIGH, generator())
    half = Uniform()(torch.zeros(1, 3, 8, 8, dtype=torch.bfloat16), LOW, HIGH, generator())
    assert torch.equal(with_default_dtype.bfloat16(), half)


def test_blur_keeps_constants_and_the_mean_and_removes_detail() -> None:
    flat = torch.full((1, 3, 12, 12), 0.7)
    torch.testing.assert_close(Blur(2.0)(flat, LOW, HIGH, generator()), flat)
    checkers = (torch.arange(12)[:, None] + torch.arange(12)) % 2 * torch.ones(1, 3, 1, 1)
    blurred = Blur()(checkers, LOW, HIGH, generator())
    assert float(blurred[..., 3:9, 3:9].std()) < 0.05
    assert abs(float(blurred.mean()) - 0.5) < 0.02


def test_mean_and_constant() -> None:
    images = torch.rand(2, 3, 5, 5)
    mean = Mean()(images, LOW, HIGH, generator())
    torch.testing.assert_close(mean[:, :, 0, 0], images.mean(dim=(2, 3)))
    assert torch.equal(
        Constant()(images, LOW, HIGH, generator())[0, :, 2, 2], torch.tensor([0.0, 2.5, 3.0])
    )
    assert (Constant(0.3)(images, LOW, HIGH, generator()) == 0.3).all()


def test_normalized_range_is_what_the_network_sees() -> None:
    mean, std = [0.485, 0.456], [0.229, 0.224]
    low, high = normalized_data_range(mean, std)
    ends = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    seen = (ends - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(torch.tensor([low, high]), seen)


def test_wrong_values_are_named() -> None:
    with pytest.raises(ValueError, match="sigma=-1"):
        Blur(-1.0)
    with pytest.raises(ValueError, match=r"choose one of uniform, blur, mean, constant"):
        get_replacement("zeros")
