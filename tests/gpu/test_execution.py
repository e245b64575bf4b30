"""How a device carries forwards out changes their cost, and leaves the training's state alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aopc_monitor import AOPC, heatmaps
from aopc_monitor.perturbation.data_range import data_range_tensors
from aopc_monitor.perturbation.noisy_linear import NoisyLinear
from aopc_monitor.perturbation.perturber import Perturber
from aopc_monitor.perturbation.replacements import Replacement, Uniform
from tests.gpu.conftest import Within
from tests.gpu.networks import (
    SIDES,
    curves,
    decided,
    images,
    largest_error,
    network,
    relative_error,
)

CPU = torch.device("cpu")


def noise(replacement: Replacement, device: torch.device) -> Tensor:
    """The replacements of all triples, drawn by a generator on the CPU."""
    x = images("resnet", count=8)
    low, high = (bound.to(device) for bound in data_range_tensors((-1.0, 2.0), 3))
    steps = torch.arange(1, 21, device=device).expand(len(x), -1)
    generator = torch.Generator().manual_seed(3)
    perturber = Perturber(x.to(device), replacement, low, high, steps, 1, generator)
    found = torch.cat([block.replaced for block in perturber.draws().blocks(0, 160)])
    assert found.device.type == device.type
    return found.cpu()


@pytest.mark.parametrize("replacement", [Uniform(), Uniform(False), NoisyLinear()], ids=repr)
def test_noise_does_not_depend_on_the_device(
    replacement: Replacement, device: torch.device, within: Within
) -> None:
    """Bit by bit, where it is not more than scaled."""
    tolerance = 0.0 if isinstance(replacement, Uniform) else 1e-6
    within(largest_error(noise(replacement, device), noise(replacement, CPU)), tolerance)


def test_noise_of_the_device_does_not_depend_on_the_chunk_size(
    device: torch.device, within: Within
) -> None:
    model, x = network("resnet", device), images("resnet")
    one, other = (
        curves(model, x, torch.Generator(device).manual_seed(4), chunk_size=size)
        for size in (7, 64)
    )
    within(largest_error(one, other), 1e-4)


@pytest.mark.parametrize("name", SIDES)
def test_channels_last(name: str, device: torch.device, within: Within) -> None:
    model, x = network(name, device), images(name)
    first, last = (curves(model, x, channels_last=choice) for choice in (False, True))
    within(largest_error(first, last), 1e-4)


def test_autocast_around_it_is_that_of_the_argument(device: torch.device, within: Within) -> None:
    model, x = network("cnn", device), images()
    with torch.autocast(device.type, dtype=torch.bfloat16):
        around = curves(model, x)
    # Which may choose the other layout, and so another order of summation.
    within(largest_error(around, curves(model, x, autocast=torch.bfloat16)), 3e-2)
    assert largest_error(around, curves(model, x)) > 0


def test_heatmaps_are_not_cast(device: torch.device, within: Within) -> None:
    model, x, lrp = network("cnn", device), images().to(device), heatmaps.get("lrp")
    target = torch.arange(len(x), device=device) % 4
    plain = lrp(model, x, target)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        within(relative_error(lrp(model, x, target), plain), 1e-5)


def test_compiled(device: torch.device, within: Within, monkeypatch: pytest.MonkeyPatch) -> None:
    if device.type == "cpu":  # whose compiler takes long, and has tests of its own
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    model, x = network("cnn", device), images()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message='backend="compile"')
        found = curves(model, x, backend="compile", chunk_size=24)
    within(largest_error(found, curves(model, x, chunk_size=24)), 1e-4)


@contextmanager
def scarce_memory(model: nn.Module, run: Callable[[int], object]) -> Iterator[None]:
    """Memory for a few images and not for 256: on a CPU the network itself says so.

    Args:
        model: the network.
        run: makes a curve at a chunk size.
    """
    if not next(model.parameters()).is_cuda:
        hook = model.register_forward_pre_hook(_refuses_many)
        yield
        hook.remove()
        return
    run(16)  # what is set up once is there
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    run(16)
    needed = torch.cuda.max_memory_reserved()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties("cuda").total_memory
    torch.cuda.set_per_process_memory_fraction(2 * needed / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def _refuses_many(model: nn.Module, inputs: Any) -> None:
    if len(inputs[0]) > 48:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes")


def wide_network(device: torch.device) -> nn.Module:
    """Of which an image takes as much memory as of a large network, on a device that has it."""
    torch.manual_seed(0)
    width = 64 if device.type == "cuda" else 4
    first, last = nn.Conv2d(3, width, 3, padding=1), nn.Linear(width, 4)
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = nn.Sequential(first, nn.Tanh(), *pooled, last)
    return decided(model.eval(), images()).to(device)


def test_short_memory_halves_chunks_and_changes_nothing(
    device: torch.device, within: Within
) -> None:
    side = 128 if device.type == "cuda" else 16
    x = F.interpolate(images(count=16), size=side)
    model, seen = wide_network(device), list[int]()
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])), prepend=True)

    def run(chunk_size: int) -> Tensor:
        return curves(model, x, steps=16, chunk_size=chunk_size)

    expected = run(16)
    with scarce_memory(model, run):
        seen.clear()
        found = run(256)
    assert 256 in seen, "there was no chunk of the size that was asked for"
    assert 1 <= seen[-1] < 256, "memory was not short"
    within(largest_error(found, expected), 1e-4)


def states(device: torch.device) -> dict[str, Any]:
    """What a training goes on from, beside its model."""
    cudnn = torch.backends.cudnn
    stance = torch._dynamo.eval_frame._stance.stance
    of_device = torch.cuda.get_rng_state_all() if device.type == "cuda" else []
    flags = (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32)
    return {
        "generators": [state.tolist() for state in (torch.get_rng_state(), *of_device)],
        "cudnn": flags,
        "matmul": torch.backends.cuda.matmul.allow_tf32,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "stance": stance,
        "autocast": torch.is_autocast_enabled(device.type),
    }


@pytest.mark.parametrize("flag", [False, True])
def test_nothing_of_the_training_is_touched(flag: bool, device: torch.device) -> None:
    import torch._dynamo  # from here on there is a stance

    cudnn = torch.backends.cudnn
    kept = cudnn.benchmark
    cudnn.benchmark = flag
    try:
        model = network("cnn", device).train()
        torch.rand(3, device=device)  # the device's generator has begun
        before, buffers = states(device), [b.clone() for b in model.buffers()]
        x = images().to(device)
        heatmaps.get("smoothgrad")(model, x, torch.zeros(len(x), dtype=torch.long, device=device))
        result = curves_of_itself(model, images())
        assert states(device) == before
        assert torch.isfinite(result).all()
        assert model.training
        assert all(map(torch.equal, model.buffers(), buffers))
    finally:
        cudnn.benchmark = kept


def curves_of_itself(model: nn.Module, x: Tensor) -> Tensor:
    """By the metric, of the very model and with its own heatmap."""
    # Enough for a full chunk, whose time the search for the chunk size takes.
    metric = AOPC("lrp", region_size=4, steps=16, data_range=(0.0, 1.0))
    metric.update(model, x.to(next(model.parameters()).device))
    return metric.curve()
