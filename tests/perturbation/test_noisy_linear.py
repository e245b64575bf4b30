from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from aopc_monitor import area_over_perturbation_curve
from aopc_monitor.network.execution import Execution
from aopc_monitor.perturbation import noisy_linear as imputation
from aopc_monitor.perturbation.data_range import data_range_tensors
from aopc_monitor.perturbation.noisy_linear import NoisyLinear, linear_imputation
from aopc_monitor.perturbation.regions import Grid
from tests.reference import regions_of, sequence

LOW, HIGH = data_range_tensors((0.0, 1.0), channels=2)
SETTINGS: dict[str, Any] = {"region_size": 4, "steps": 16, "data_range": (0.0, 1.0)}


def batch(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)


def holes(images: Tensor, seed: int = 0) -> Tensor:
    """A different mask for each image, from almost nothing to almost everything."""
    generator = torch.Generator().manual_seed(seed)
    count, _, height, width = images.shape
    share = torch.linspace(0.1, 0.95, count)[:, None, None, None]
    mask = torch.rand(count, 1, height, width, generator=generator) < share
    mask[:, :, -1, 0] = False
    return mask


def by_definition(image: Tensor, mask: Tensor) -> Tensor:
    """One image (C, H, W): one equation per perturbed pixel, written down and solved densely."""
    height, width = mask.shape
    pixels = mask.nonzero().tolist()
    number = {tuple(pixel): row for row, pixel in enumerate(pixels)}
    matrix = torch.zeros(len(pixels), len(pixels), dtype=torch.float64)
    known = torch.zeros(len(pixels), len(image), dtype=torch.float64)
    for row, (y, x) in enumerate(pixels):
        for down, right in ((a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)):
            there, weight = (y + down, x + right), 1 / 12 if down and right else 1 / 6
            if 0 <= there[0] < height and 0 <= there[1] < width:
                matrix[row, row] += weight
                if there in number:
                    matrix[row, number[there]] -= weight
                else:
                    known[row] += weight * image[:, there[0], there[1]]
    filled = image.double().clone()
    filled[:, mask] = torch.linalg.solve(matrix, known).T
    return filled


@pytest.mark.parametrize("size", [(8, 8), (5, 9), (13, 12), (1, 7), (7, 1), (2, 2)])
def test_solves_the_equations(size: tuple[int, int]) -> None:
    images = batch(6, 2, *size)
    mask = holes(images)
    exact = torch.stack([by_definition(x, m[0]) for x, m in zip(images, mask, strict=True)])
    solved = linear_imputation(images, mask, LOW, HIGH, tolerance=1e-12)
    torch.testing.assert_close(solved, exact, rtol=0, atol=1e-11)
    usual = linear_imputation(images.float(), mask, LOW, HIGH)
    torch.testing.assert_close(usual.double(), exact, rtol=0, atol=5e-5)


def test_agrees_with_the_code_of_the_paper() -> None:
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    images = batch(6, 3, 16, 11, dtype=torch.float32)
    mask = holes(images)
    ours = linear_imputation(images, mask, torch.zeros(3, 1, 1), torch.ones(3, 1, 1), 1e-6)
    for x, m, filled in zip(images, mask, ours, strict=True):
        theirs = road.NoisyLinearImputer(noise=0.0)(x, (~m[0]).to(torch.uint8))
        torch.testing.assert_close(filled, theirs, rtol=0, atol=5e-6)


def test_agrees_with_quantus() -> None:
    quantus = pytest.importorskip("quantus.functions.perturb_func")
    images = batch(6, 2, 16, 11)
    mask = holes(images)
    ours = linear_imputation(images, mask, LOW, HIGH, tolerance=1e-12)
    for x, m, filled in zip(images, mask, ours, strict=True):
        indices = np.flatnonzero(m.numpy())
        theirs = quantus.noisy_linear_imputation(x.numpy(), indices, noise=0.0)
        torch.testing.assert_close(filled, torch.from_numpy(theirs), rtol=0, atol=1e-11)


@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    dtype=st.sampled_from([torch.float16, torch.float32, torch.float64]),
    share=st.floats(0, 1),
    offset=st.floats(-50, 50),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_properties(
    size: tuple[int, int], dtype: torch.dtype, share: float, offset: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = (torch.rand(4, 2, *size, generator=generator) + offset).to(dtype)
    mask = torch.rand(4, 1, *size, generator=generator) < share
    low, high = LOW + offset, HIGH + offset
    filled = linear_imputation(images, mask, low, high)
    assert filled.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.equal(filled.to(dtype).where(~mask, images), images)
    pairs = zip(images.split(1), mask.split(1), strict=True)
    alone = torch.cat([linear_imputation(x, m, low, high) for x, m in pairs])
    assert torch.equal(filled, alone)
    for image, m, values in zip(images, mask, filled, strict=True):
        for channel in range(2):
            known = image[channel][~m[0]].to(filled.dtype)
            if len(known):
                assert known.min() <= values[channel].min()
                assert values[channel].max() <= known.max()
            else:
                assert (values[channel] == (low + high)[channel, 0, 0] / 2).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_constants_stay_and_half_precision_is_the_rounded_solution(dtype: torch.dtype) -> None:
    images = batch(5, 2, 9, 9, dtype=dtype)
    mask = holes(images)
    flat = torch.full_like(images, 0.3)
    replacement = NoisyLinear(noise=0.0)
    middle = replacement(images, LOW, HIGH, torch.Generator())
    assert torch.equal(replacement.impute(flat, mask, middle, LOW, HIGH), flat)
    filled = replacement.impute(images, mask, middle, LOW, HIGH)
    wide = linear_imputation(images.double(), mask, LOW, HIGH, tolerance=1e-12)
    assert filled.dtype == dtype
    error = max(2e-5, torch.finfo(dtype).eps)
    torch.testing.assert_close(filled.double(), wide, rtol=0, atol=error)


def test_ramps_go_on_in_holes_that_leave_the_border_alone() -> None:
    along = torch.arange(20, dtype=torch.float64)
    ramp = 0.3 * along[:, None] - 0.1 * along + 2
    images = torch.stack([ramp, ramp.T])[None]
    mask = torch.zeros(1, 1, 20, 20, dtype=torch.bool)
    mask[..., 1:19, 1:19] = torch.rand(18, 18, generator=torch.Generator().manual_seed(0)) < 0.9
    mask[..., 4:15, 3:17] = True
    solved = linear_imputation(images, mask, LOW, HIGH, tolerance=1e-12)
    torch.testing.assert_close(solved, images, rtol=0, atol=1e-10)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("side", [32, 224])
def test_twenty_iterations_do(monkeypatch: pytest.MonkeyPatch, side: int, share: float) -> None:
    images = batch(2, 2, side, side)
    distance = (torch.arange(side) - side / 2)[:, None].abs() + torch.zeros(side)
    mask = torch.stack([distance < share * side / 2, torch.rand(side, side) < share])[:, None]
    exact = linear_imputation(images, mask, LOW, HIGH, tolerance=1e-11)
    monkeypatch.setattr(imputation, "MAX_ITERATIONS", 20)
    ours = linear_imputation(images.float(), mask, LOW, HIGH)
    torch.testing.assert_close(ours.double(), exact, rtol=0, atol=5e-5)


def test_the_noise_is_in_units_of_the_data_range_and_the_same_in_every_precision() -> None:
    low, high = data_range_tensors(([-2.0, 0.0], [2.0, 0.5]), channels=2)
    images = torch.zeros(50, 2, 32, 32) + low
    mask = torch.zeros(50, 1, 32, 32, dtype=torch.bool)
    mask[..., 8:24, :] = True

    def imputed(noise: float, dtype: torch.dtype) -> Tensor:
        replacement, x = NoisyLinear(noise), images.to(dtype)
        replaced = replacement(x, low, high, torch.Generator().manual_seed(0))
        return replacement.impute(x, mask, replaced, low, high)

    noisy = imputed(0.01, torch.float32) - images
    assert (noisy[~mask.expand_as(noisy)] == 0).all()
    torch.testing.assert_close(noisy[:, 0, 8:24].std(), torch.tensor(0.04), rtol=0.02, atol=0)
    torch.testing.assert_close(noisy[:, 1, 8:24].std(), torch.tensor(0.005), rtol=0.02, atol=0)
    assert torch.equal(imputed(0.01, torch.bfloat16), imputed(0.01, torch.float32).bfloat16())
    assert not NoisyLinear(0.0).is_random
    with pytest.raises(ValueError, match="noise=-1 must be"):
        NoisyLinear(-1)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(784, 3)).eval()


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_curve_is_that_of_a_loop_over_steps(noise: float) -> None:
    model, images = network().double(), batch(2, 2, 16, 16)
    replacement = NoisyLinear(noise, fresh_each_step=False)
    curves = area_over_perturbation_curve(
        model, images, images[:, 0], replacement=replacement, repeats=1,
        generator=torch.Generator().manual_seed(3), **SETTINGS,
    ).curves  # fmt: skip
    generator, grid = torch.Generator().manual_seed(3), Grid((16, 16), 4)
    keys = torch.rand(2, 16, generator=generator, dtype=torch.float64)
    drawn = replacement(images, LOW, HIGH, generator)
    for image, replaced, key, curve in zip(images, drawn, keys, curves, strict=True):
        order = sequence(image[0], regions_of(grid), "morf", key)
        target, mask = int(model(image[None]).argmax()), torch.zeros(16, 16, dtype=torch.bool)
        for k, region in enumerate(order[:-1], start=1):
            mask[regions_of(grid)[region]] = True
            filled = by_definition(image, mask) + mask * (replaced - 0.5)
            score = model(filled[None]).softmax(1)[0, target]
            torch.testing.assert_close(curve[k], score, rtol=0, atol=2e-5)
        nothing_left = model(replaced[None].double()).softmax(1)[0, target]
        torch.testing.assert_close(curve[16], nothing_left, rtol=0, atol=1e-6)


class OutOfMemoryAbove(nn.Module):
    """Fails for batches of more than a few images; answers one image at a time."""

    def __init__(self, model: nn.Module, limit: int) -> None:
        super().__init__()
        self.model, self.limit = model, limit

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.limit:
            raise MemoryError
        outputs: Tensor = torch.cat([self.model(one[None]) for one in x])
        return outputs


def test_chunks_and_short_memory_change_nothing_and_global_generators_stay() -> None:
    images = batch(3, 2, 16, 16, dtype=torch.float32)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    curves = [
        area_over_perturbation_curve(
            OutOfMemoryAbove(model, limit), images, images[:, 0], execution=Execution(chunk_size),
            replacement="noisy_linear", repeats=2, **SETTINGS,
        ).curves
        for model in [network()]
        for limit, chunk_size in ((1000, 1000), (1000, 1), (1000, 7), (5, 1000))
    ]  # fmt: skip
    assert all(torch.equal(curves[0], other) for other in curves[1:])
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
