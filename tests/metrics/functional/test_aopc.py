from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from aopc_monitor import area_over_perturbation_curve
from aopc_monitor.network.execution import Execution
from aopc_monitor.perturbation.data_range import data_range_tensors
from aopc_monitor.perturbation.dense_kinds import Images
from aopc_monitor.perturbation.regions import ORDERS
from aopc_monitor.perturbation.replacements import (
    REPLACEMENTS,
    Constant,
    Uniform,
    get_replacement,
    suits,
)
from tests.modules import small_network
from tests.reference import aopc_by_recursion

RANGE = (-1.0, 2.0)
FOR_IMAGES = [name for name in REPLACEMENTS if suits(get_replacement(name), Images())]


def network(channels: int = 3, side: int = 12) -> nn.Module:
    torch.manual_seed(0)
    return (
        nn.Sequential(
            nn.Conv2d(channels, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * (side - 2) ** 2, 5)
        )
        .double()
        .eval()
    )


def batch(count: int = 3, channels: int = 3, height: int = 12, width: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, channels, height, width, generator=generator, dtype=torch.float64)
    return images * 3 - 1


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("replacement", FOR_IMAGES)
@pytest.mark.parametrize("repeats", [1, 3])
def test_fast_path_equals_the_recursion(order: Any, replacement: str, repeats: int) -> None:
    model, images = network(), batch()
    heatmaps = images.mean(dim=1).round(decimals=1)  # with ties
    g = get_replacement(replacement)
    if g.fresh_each_step:
        g = dataclasses.replace(g, fresh_each_step=False)  # type: ignore[type-var]
    settings: dict[str, Any] = {"region_size": 3, "steps": 9}
    result = area_over_perturbation_curve(
        model, images, heatmaps, data_range=RANGE, order=order, replacement=g, repeats=repeats,
        execution=Execution(7), generator=torch.Generator().manual_seed(5), **settings,
    )  # fmt: skip
    low, high = data_range_tensors(RANGE, 3)
    slow = aopc_by_recursion(
        model, images, heatmaps, low=low, high=high, order=order, replacement=g,
        repeats=repeats if g.is_random else 1, seed=5, **settings,
    )  # fmt: skip
    torch.testing.assert_close(result.curves, slow, rtol=0, atol=1e-6)
    areas = (slow[:, :1] - slow).sum(dim=1) / (9 + 1)
    torch.testing.assert_close(result.per_image, areas, rtol=0, atol=1e-6)
    torch.testing.assert_close(result.mean, areas.mean(), rtol=0, atol=1e-6)
    torch.testing.assert_close(result.sem, areas.std() / 3**0.5, rtol=0, atol=1e-6)
    torch.testing.assert_close(result.curve, slow.mean(0), rtol=0, atol=1e-6)


def test_fresh_noise_has_the_expectation_of_the_recursion() -> None:
    model, images = network(), batch(1)
    means = [
        area_over_perturbation_curve(
            model, images, images.mean(1), region_size=3, steps=6, data_range=RANGE, repeats=2000,
            replacement=Uniform(fresh_each_step=fresh),
        ).curves[0]
        for fresh in (True, False)
    ]  # fmt: skip
    torch.testing.assert_close(*means, rtol=0, atol=0.01)


@given(
    side=st.integers(4, 9),
    region_size=st.integers(1, 4),
    channels=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=30, deadline=None)
def test_linear_model_has_its_closed_form(
    side: int, region_size: int, channels: int, seed: int
) -> None:
    """f = w . x and a constant c: each step k removes its region's contribution for good."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(channels, side, side, generator=generator, dtype=torch.float64)
    x = torch.rand(1, channels, side, side, generator=generator, dtype=torch.float64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(weight.numel(), 2, bias=False)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([weight.flatten(), -weight.flatten()]))
    rows = side // region_size
    steps = rows * rows
    constant = 0.25
    drops = (weight * (x[0] - constant)).sum(0)
    result = area_over_perturbation_curve(
        model, x, drops[None], region_size=region_size, steps=steps, data_range=(0.0, 1.0),
        score="logit", target=torch.tensor([0]),
        replacement=Constant(constant),
    )  # fmt: skip
    top = (side - rows * region_size) // 2
    inside = drops[top : top + rows * region_size, top : top + rows * region_size]
    per_region = inside.unfold(0, region_size, region_size).unfold(1, region_size, region_size)
    sorted_drops = per_region.sum(dim=(2, 3)).flatten().sort(descending=True).values
    expected = sorted_drops.cumsum(0).sum() / (steps + 1)
    torch.testing.assert_close(result.mean, expected, rtol=1e-9, atol=1e-9)


def test_constant_heatmap_scores_like_the_random_order() -> None:
    model, images = network(), batch(4)
    settings: dict[str, Any] = {"region_size": 3, "steps": 8, "data_range": RANGE}
    for value in (0.0, 0.1, -7.3):
        constant = torch.full((4, 12, 12), value, dtype=torch.float64)
        flat = area_over_perturbation_curve(model, images, constant, **settings)
        random = area_over_perturbation_curve(
            model, images, images.mean(1), order="random", **settings
        )
        assert torch.equal(flat.curves, random.curves)


def test_morf_falls_faster_than_lerf_for_a_true_heatmap() -> None:
    model, images = network(), batch(8)
    x = images.clone().requires_grad_()
    scores = model(x)
    (gradient,) = torch.autograd.grad(scores.max(dim=1).values.sum(), x)
    heatmaps = (gradient * images).sum(1)
    morf, lerf = (
        area_over_perturbation_curve(
            model, images, heatmaps, region_size=2, steps=12, data_range=RANGE, order=order,
            replacement="mean", score="logit",
        ).mean
        for order in ("morf", "lerf")
    )  # fmt: skip
    assert morf > lerf


@pytest.mark.parametrize("chunk_size", [1, 5, 1000])
def test_chunk_size_does_not_change_the_result(chunk_size: int) -> None:
    model, images = network(), batch()
    settings: dict[str, Any] = {"region_size": 4, "steps": 5, "data_range": RANGE, "repeats": 2}
    whole = area_over_perturbation_curve(model, images, images.mean(1), **settings)
    parts = area_over_perturbation_curve(
        model, images, images.mean(1), execution=Execution(chunk_size), **settings
    )
    torch.testing.assert_close(parts.curves, whole.curves, rtol=0, atol=1e-12)
    assert whole.forwards == 3 + 3 * 5 * 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_precisions_and_channels(dtype: torch.dtype, channels: int) -> None:
    model = network(channels).to(dtype)
    images = batch(channels=channels).to(dtype)
    settings: dict[str, Any] = {"region_size": 4, "steps": 5, "data_range": RANGE}
    # Rounded heatmaps may order regions otherwise; the noise is the same in every precision.
    heatmaps = torch.arange(144.0).view(1, 12, 12).expand(3, -1, -1).double()
    result, reference = (
        area_over_perturbation_curve(
            model.to(kind), images.to(kind), heatmaps.to(kind),
            generator=torch.Generator().manual_seed(3), **settings,
        )
        for kind in (dtype, torch.float64)
    )  # fmt: skip
    assert result.curves.dtype == torch.float64
    torch.testing.assert_close(result.curve, reference.curve, rtol=0, atol=0.02)


def test_model_and_generators_are_left_alone() -> None:
    model = small_network().train()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    images = torch.zeros(2, 3, 16, 16) + torch.linspace(0, 1, 16)
    for _ in range(2):
        area_over_perturbation_curve(
            model, images, images[:, 0], region_size=4, steps=4, data_range=(0.0, 1.0)
        )
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


class OutOfMemoryAbove(nn.Module):
    """Fails for batches of more than a few images, as a full device does."""

    # Of the class: what an instance keeps is put back after each look.
    sizes: ClassVar[list[int]] = []

    def __init__(self, limit: int, error: type[RuntimeError], message: str) -> None:
        super().__init__()
        self.model, self.limit, self.error, self.message = network(), limit, error, message

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.limit:
            raise self.error(self.message)
        self.sizes.append(len(x))
        outputs: Tensor = self.model(x)
        return outputs


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError, "CUDA out of memory"),
        (RuntimeError, "DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_chunks_are_halved_when_memory_is_short(error: type[RuntimeError], message: str) -> None:
    images = batch()
    settings: dict[str, Any] = {"region_size": 3, "steps": 9, "data_range": RANGE}
    model = OutOfMemoryAbove(4, error, message)
    model.sizes.clear()
    result = area_over_perturbation_curve(model, images, images.mean(1), **settings)
    whole = area_over_perturbation_curve(network(), images, images.mean(1), **settings)
    torch.testing.assert_close(result.curves, whole.curves, rtol=0, atol=1e-12)
    assert max(model.sizes[2:]) == 3  # the first two tell its traits
    with pytest.raises(error, match="memory"):
        area_over_perturbation_curve(
            OutOfMemoryAbove(0, error, message), images, images.mean(1), **settings
        )


def test_other_errors_of_the_model_are_not_swallowed() -> None:
    model = OutOfMemoryAbove(3, RuntimeError, "shapes cannot be multiplied")
    images = batch()
    with pytest.raises(RuntimeError, match="multiplied"):
        area_over_perturbation_curve(
            model, images, images.mean(1), region_size=3, steps=9, data_range=RANGE
        )


def good_input(**changes: Any) -> dict[str, Any]:
    images = batch()
    return {
        "images": images, "heatmaps": images.mean(1), "region_size": 3, "steps": 9,
        "data_range": RANGE, **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"region_size": 13}, "region_size=13 does not fit images of 12 x 12"),
        ({"region_size": 0}, "region_size=0 must be a whole number"),
        ({"region_size": 2.5}, "region_size=2.5 must be a whole number"),
        ({"steps": 17}, "steps=17 is more than the 16 regions"),
        ({"steps": 0}, "steps=0 must be"),
        ({"repeats": 0}, "repeats=0 must be"),
        ({"data_range": None}, "data_range is missing"),
        ({"data_range": 1.0}, "is not a pair"),
        ({"data_range": (1.0, 0.0)}, "low < high"),
        ({"data_range": (0.0, float("nan"))}, "finite"),
        ({"data_range": ([0.0, 0.0], [1.0, 1.0])}, "2 numbers for images of 3 channels"),
        ({"order": "first"}, "order='first' is unknown: choose one of morf, lerf, random"),
        ({"replacement": "black"}, "replacement='black' is unknown: choose one of uniform"),
        ({"score": "loss"}, "score='loss' is unknown: choose one of probability"),
        ({"score": lambda outputs, target: outputs}, r"score returned \(3, 5\) for 3 images"),
        ({"target": torch.zeros(2, dtype=torch.long)}, "target is"),
        ({"target": torch.full((3,), 9)}, "from 9 to 9; the model has 5"),
        ({"heatmaps": torch.zeros(3, 3, 12, 12)}, r"heatmaps has shape \(3, 3, 12, 12\)"),
        ({"heatmaps": torch.full((3, 12, 12), float("nan"))}, "heatmaps holds NaN"),
        ({"heatmaps": torch.zeros(3, 12, 12, device="meta")}, "heatmaps is on meta"),
        ({"images": torch.zeros(12)}, r"images has shape \(12,\)"),
        ({"images": torch.zeros(0, 3, 12, 12)}, "images is empty"),
        ({"images": torch.full((3, 3, 12, 12), float("inf"))}, "images holds NaN or infinite"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        area_over_perturbation_curve(network(), **good_input(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.zeros(3, 3, 12, 12, dtype=torch.uint8)}, "images is torch.uint8"),
        ({"images": [1]}, "images is a list"),
        ({"heatmaps": [1]}, "heatmaps is a list"),
        ({"target": torch.zeros(3)}, "target is torch.float32"),
        ({"replacement": 3}, "replacement=3 is neither"),
    ],
)
def test_bad_types_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        area_over_perturbation_curve(network(), **good_input(**changes))


def test_nan_scores_are_an_error_and_not_a_number() -> None:
    class NaNWhenPerturbed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = network()(x)
            return outputs if len(x) == 3 else outputs * float("nan")

    images = batch()
    with pytest.raises(ValueError, match="NaN or infinite scores for perturbed images"):
        area_over_perturbation_curve(
            NaNWhenPerturbed(), images, images.mean(1), region_size=3, steps=9, data_range=RANGE
        )
