from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import AOPC, AOPCMonitor, area_over_perturbation_curve
from aopc_monitor.heatmaps import Occlusion
from aopc_monitor.perturbation.data_range import data_range_tensors, normalized_data_range
from aopc_monitor.perturbation.dense_kinds import Images
from aopc_monitor.perturbation.noisy_linear import Imputation, NoisyLinear
from aopc_monitor.perturbation.perturber import Perturber
from aopc_monitor.perturbation.regions import Grid
from aopc_monitor.perturbation.replacements import (
    REPLACEMENTS,
    Blur,
    Constant,
    Mean,
    Replacement,
    Uniform,
    get_replacement,
    suits,
)
from tests.modules import Classifier, loaders, small_network, trainer

FOR_IMAGES = [name for name in REPLACEMENTS if suits(get_replacement(name), Images())]
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


def test_blur_of_volumes_is_that_of_scipy() -> None:
    filters = pytest.importorskip("scipy.ndimage")
    volumes = torch.rand(2, 3, 9, 8, 11, dtype=torch.float64)
    blurred = Blur(1.0)(volumes, LOW, HIGH, generator())
    expected = filters.gaussian_filter(
        volumes.numpy(), sigma=(0, 0, 1, 1, 1), truncate=3.0, mode="nearest"
    )
    torch.testing.assert_close(blurred, torch.from_numpy(expected), atol=1e-6, rtol=0)


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
    with pytest.raises(ValueError, match=f"choose one of {', '.join(REPLACEMENTS)}"):
        get_replacement("zeros")


@pytest.mark.parametrize("name", FOR_IMAGES)
def test_table_makes_images_of_the_data_range(name: str) -> None:
    images = torch.rand(2, 3, 8, 8) * (HIGH - LOW) + LOW
    replacement = get_replacement(name)
    assert isinstance(replacement, Replacement)
    assert isinstance(replacement, Imputation) == (name == "noisy_linear")
    replaced = replacement(images, LOW, HIGH, generator())
    assert replaced.shape == images.shape
    slack = 0.1 * (HIGH - LOW)
    assert ((replaced > LOW - slack) & (replaced < HIGH + slack)).all()


@pytest.mark.parametrize("name", FOR_IMAGES)
@pytest.mark.parametrize("fresh", [True, False])
def test_orders_are_perturbed_with_the_same_draws(name: str, fresh: bool) -> None:
    images, grid, steps = torch.rand(2, 3, 8, 8), Grid((8, 8), 4), torch.tensor([[1, 2, 4]] * 4)
    replacement = get_replacement(name)
    if isinstance(replacement, (Uniform, NoisyLinear)):
        replacement = type(replacement)(fresh_each_step=fresh)
    perturber = Perturber(images, replacement, LOW, HIGH, steps, 2, generator())
    (block,) = perturber.draws().blocks(0, 12)
    one, other = (
        grid.rank_map(torch.tensor([order] * 2))[:, None] for order in ([0, 1, 2, 3], [1, 0, 3, 2])
    )
    first, second, occluded = torch.empty(3, 12, 3, 8, 8)
    block.perturbed(one, first)
    block.perturbed(other, second)
    block.occluded(one, occluded)
    same_regions = block.step != 1
    assert torch.equal(first[same_regions], second[same_regions])
    assert not torch.equal(first, second)
    assert torch.equal(occluded[block.step == 1], first[block.step == 1])


@pytest.mark.parametrize("fresh", [True, False])
def test_draws_do_not_depend_on_where_a_chunk_begins(fresh: bool) -> None:
    images, steps = torch.rand(5, 3, 8, 8), torch.arange(1, 5).repeat(5 * 2, 1)
    perturber = Perturber(images, Uniform(fresh), LOW, HIGH, steps, 2, generator())
    draws = perturber.draws()
    whole = torch.cat([block.replaced for block in draws.blocks(0, 40)])
    again = [
        block.replaced
        for start in range(0, 40, 7)
        for block in draws.blocks(start, min(start + 7, 40))
    ]
    assert torch.equal(torch.cat(again), whole)
    assert len(whole.flatten(1).unique(dim=0)) == (40 if fresh else 10)


@dataclass(frozen=True)
class Black:
    """A user's replacement."""

    is_random: bool = False
    fresh_each_step: bool = False

    def __call__(
        self, images: Tensor, low: Tensor, high: Tensor, generator: torch.Generator
    ) -> Tensor:
        return torch.zeros_like(images)


@dataclass(frozen=True)
class AsManyAsPerturbed(Black):
    """A user's imputation: the number of perturbed pixels, wherever one is."""

    masks: list[Tensor] = field(default_factory=list)

    def impute(
        self, images: Tensor, perturbed: Tensor, replaced: Tensor, low: Tensor, high: Tensor
    ) -> Tensor:
        self.masks.append(perturbed)
        count = perturbed.sum(dim=(2, 3), keepdim=True).to(images.dtype)
        return torch.where(perturbed, count + replaced, images)


def test_replacements_and_imputations_of_the_user() -> None:
    model = nn.Sequential(nn.AvgPool2d(4), nn.Flatten())
    images = torch.full((1, 1, 4, 4), 2.0)
    settings: dict[str, Any] = {
        "region_size": 2, "steps": 4, "data_range": (0.0, 16.0), "score": "logit"
    }  # fmt: skip
    black = area_over_perturbation_curve(
        model, images, images[:, 0], replacement=Black(), **settings
    )
    assert black.curves.tolist() == [[2.0, 1.5, 1.0, 0.5, 0.0]]
    counted = AsManyAsPerturbed()
    result = area_over_perturbation_curve(
        model, images, images[:, 0], replacement=counted, **settings
    )
    assert result.curves.tolist() == [[2.0, 2.5, 5.0, 9.5, 16.0]]
    assert [tuple(mask.shape) for mask in counted.masks] == [(4, 1, 4, 4)]


def test_noisy_linear_goes_wherever_a_replacement_goes(tmp_path: Path) -> None:
    model, images = small_network().eval(), torch.rand(2, 3, 16, 16)
    settings: dict[str, Any] = {
        "region_size": 4, "steps": 4, "data_range": (0.0, 1.0), "replacement": "noisy_linear"
    }  # fmt: skip
    metric = AOPC(heatmap="lrp", **settings)
    metric.update(model, images)
    assert torch.isfinite(metric.compute())
    heatmaps = Occlusion(4, "noisy_linear", (0.0, 1.0))(model, images, torch.tensor([0, 1]))
    assert (heatmaps[:, ::4, ::4] != 0).all()
    train, val = loaders()
    monitor = AOPCMonitor(num_images=8, on_error="raise", **settings)
    fit = trainer(tmp_path, monitor, max_epochs=1)
    fit.fit(Classifier(), train, val)
    assert torch.isfinite(fit.callback_metrics["aopc/lrp"])
