"""How much memory a look at a sharded model takes beside a plain forward: no copy of the weights.

Counted is what torch's allocator gives out and takes back, by its own profiler.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from aopc_monitor import AOPC
from aopc_monitor.network.execution import Execution
from tests.integration.sharded.models import Head, Patches, fully_sharded
from tests.processes import run

pytestmark = pytest.mark.full
# A block of the monitor's, and four steps of its images in one forward.
BLOCK, CHUNK, SIZE = 16, 64, 48
# When gathered weights are given back differs from run to run: a look needs the least of these.
TRIES = 5
HEATMAPS = ("random", "sensitivity_l2", "grad_cam", "lrp")


class Mlp(nn.Module):
    """As in a transformer: four times as wide inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.up, self.down = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


class OneToken(nn.Module):
    """The mean of all tokens, so that weights are all that is large."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=1, keepdim=True)


def of_large_activations() -> nn.Sequential:
    return nn.Sequential(Patches(64), *(Mlp(64) for _ in range(4)), Head(64))


def of_large_weights() -> nn.Sequential:
    return nn.Sequential(Patches(256), OneToken(), *(Mlp(256) for _ in range(8)), Head(256))


def peak(call: Callable[[], object]) -> int:
    """Bytes that a call has in use at most, beyond those before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as made:
        call()
    results: Any = made.profiler.kineto_results  # type: ignore[union-attr]
    events = [event for event in results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events))


def bytes_of(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def peaks(make: Callable[[], nn.Sequential], size: int) -> dict[str, int]:
    """Of a validation's forward of a chunk, of a training step of a block, and of looks at one."""
    model = fully_sharded(make()).eval()
    images = torch.rand(CHUNK, 3, size, size)
    block = images[:BLOCK].clone()

    def validation() -> None:
        with torch.no_grad():
            model(images)

    def training() -> None:
        model(block).sum().backward()

    def measured(call: Callable[[], object]) -> int:
        call()  # what is made once is made
        found = []
        for _ in range(TRIES):
            model.zero_grad()
            model.reshard()
            found.append(peak(call))
        return min(found)

    found = {"validation": measured(validation), "training": measured(training)}
    for heatmap in HEATMAPS:
        metric = AOPC(
            heatmap, region_size=3, steps=8, sampled_steps=CHUNK // BLOCK, data_range=(0.0, 1.0),
            execution=Execution(chunk_size=CHUNK),
        )  # fmt: skip
        found[heatmap] = measured(lambda metric=metric: metric.update(model, block))  # type: ignore[misc]
    return {**found, "chunk": bytes_of([images]), "weights": bytes_of(model.parameters())}


def _work(rank: int, world_size: int) -> dict[str, dict[str, int]]:
    warnings.simplefilter("ignore")
    return {
        "activations": peaks(of_large_activations, SIZE),
        "weights": peaks(of_large_weights, 12),
    }


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, int]]]:
    return run(_work, 2, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("heatmap", HEATMAPS[:3])
def test_a_look_takes_one_and_a_half_chunks_of_images_beside_a_forward(
    ranks: list[Any], heatmap: str
) -> None:
    for found in (rank["activations"] for rank in ranks):
        assert 0 < found[heatmap] - found["validation"] < 1.5 * found["chunk"]


def test_rules_take_twice_the_memory_of_a_training_step_of_as_many_images(ranks: list[Any]) -> None:
    for found in (rank["activations"] for rank in ranks):
        assert found["lrp"] < 2.1 * found["training"]


@pytest.mark.parametrize("heatmap", HEATMAPS)
def test_no_look_has_all_weights_at_once(ranks: list[Any], heatmap: str) -> None:
    for found in (rank["weights"] for rank in ranks):
        assert found["weights"] > 100 * found["chunk"]
        assert found[heatmap] < 0.75 * found["weights"]
