"""Perturbed images in chunks: the same whatever the chunk, and whatever is perturbed beside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import area_over_perturbation_curve
from aopc_monitor.network.chunks import ChunkSize
from aopc_monitor.network.execution import Execution
from aopc_monitor.perturbation.curve import perturbed_scores
from aopc_monitor.perturbation.data_range import data_range_tensors
from aopc_monitor.perturbation.noisy_linear import NoisyLinear
from aopc_monitor.perturbation.perturber import Perturber
from aopc_monitor.perturbation.regions import Grid
from aopc_monitor.perturbation.replacements import Mean, Replacement, Uniform

LOW, HIGH = data_range_tensors((-1.0, 2.0), channels=3)
STEPS, REPEATS = 16, 2
SETTINGS: dict[str, Any] = {"region_size": 4, "steps": STEPS, "data_range": (-1.0, 2.0)}
REPLACEMENTS: list[Replacement] = [
    Uniform(), Uniform(fresh_each_step=False), NoisyLinear(), Mean()
]  # fmt: skip


def images(count: int = 5, side: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, side, side, generator=generator, dtype=torch.float64)


def perturber(x: Tensor, replacement: Replacement) -> Perturber:
    steps = torch.arange(1, STEPS + 1).expand(len(x) * REPEATS, -1)
    generator = torch.Generator().manual_seed(1)
    return Perturber(x, replacement, LOW, HIGH, steps, REPEATS, generator)


def random_ranks(x: Tensor, seed: int = 2) -> Tensor:
    grid = Grid(x.shape[2:], 4)
    keys = torch.rand(len(x), grid.num_regions, generator=torch.Generator().manual_seed(seed))
    return grid.rank_map(keys.argsort(dim=1))[:, None]


class Watched:
    """A score that keeps the images it is given, and may spoil them afterwards."""

    def __init__(self, spoils: bool = False) -> None:
        self.chunks: list[Tensor] = []
        self.spoils = spoils

    def __call__(self, x: Tensor, image: Tensor) -> Tensor:
        self.chunks.append(x.clone())
        weights = torch.linspace(-1, 1, x[0].numel(), dtype=x.dtype).view(x.shape[1:])
        scores = (x * weights).sum(dim=(1, 2, 3)).sin() + image
        if self.spoils:
            x.fill_(float("nan"))
        return scores


def perturbed(
    replacement: Replacement, chunk_size: int, x: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """All perturbed images under one order, and their scores."""
    x, watched = images() if x is None else x, Watched()
    ranks = [random_ranks(x)]
    scores = perturbed_scores(watched, perturber(x, replacement), ranks, ChunkSize(chunk_size))
    return torch.cat(watched.chunks), scores


@pytest.mark.parametrize("replacement", REPLACEMENTS, ids=repr)
@pytest.mark.parametrize("side", [16, 80])  # noise is drawn for 64 images at once, and for 8
def test_images_do_not_depend_on_the_chunk_size(replacement: Replacement, side: int) -> None:
    x = images(2, side)
    whole, scores = perturbed(replacement, 1000, x)
    for chunk_size in (1, 7, 16, 100) if side == 16 else (7, 20):
        parts, of_parts = perturbed(replacement, chunk_size, x)
        torch.testing.assert_close(of_parts, scores, rtol=0, atol=1e-12)
        if replacement != NoisyLinear():  # whose equations are solved to 1e-12, chunk by chunk
            assert torch.equal(parts, whole)


@pytest.mark.parametrize("replacement", REPLACEMENTS, ids=repr)
def test_images_do_not_depend_on_how_many_are_made_at_once(
    replacement: Replacement, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an accelerator several blocks are, each of which keeps the seed that it has on a CPU."""
    x = images(2, 80)  # blocks of 8 triples
    alone, _ = perturbed(replacement, 20, x)
    monkeypatch.setattr(Perturber, "made_at_once", 32)
    for chunk_size in (20, 64):
        together, _ = perturbed(replacement, chunk_size, x)
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


def test_more_are_made_at_once_where_the_images_are_elsewhere() -> None:
    """The seeds' blocks stay those of the generator: its noise is the same for every device."""
    x, elsewhere = images(2, 80).float(), torch.empty(2, 3, 80, 80, device="meta")
    here, there = perturber(x, Uniform()), perturber(elsewhere, Uniform())
    assert (here.block_size, here.made_at_once) == (8, 8)
    assert (there.block_size, there.made_at_once) == (8, 256)


def test_curves_do_not_depend_on_the_chunk_size() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(784, 5)).double()
    whole, *parts = (
        area_over_perturbation_curve(
            model,
            images(),
            images().mean(1),
            repeats=REPEATS,
            execution=Execution(chunk_size),
            **SETTINGS,
        )
        for chunk_size in (1000, 1, 7, 16, 100)
    )
    for part in parts:
        torch.testing.assert_close(part.curves, whole.curves, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("fresh", "draws"), [(True, STEPS), (False, 1)])
def test_each_image_step_and_repeat_has_noise_of_its_own(fresh: bool, draws: int) -> None:
    """Also beyond those that are drawn at once; the steps share one where that is asked for."""
    total = 5 * REPEATS * STEPS
    blocks = perturber(images(), Uniform(fresh)).draws().blocks(0, total)
    noise = torch.cat([block.replaced for block in blocks])
    assert len(noise) == total
    assert len(noise.flatten(1).unique(dim=0)) == 5 * REPEATS * draws
    assert len(noise[:: STEPS // draws, 0, 0, 0].unique()) > 0.99 * 5 * REPEATS * draws


@pytest.mark.parametrize("chunk_size", [13, 1000])
@pytest.mark.parametrize("replacement", REPLACEMENTS, ids=repr)
def test_orders_are_evaluated_under_the_same_draws(
    replacement: Replacement, chunk_size: int
) -> None:
    x, watched = images(), Watched()
    one, other = random_ranks(x), random_ranks(x, seed=3)

    def scores(*orders: Tensor, score: Watched | None = None) -> Tensor:
        made = perturber(x, replacement)
        return perturbed_scores(score or Watched(), made, orders, ChunkSize(chunk_size))

    first, second, again = scores(one, other, one, score=watched)
    assert torch.equal(first, again)
    assert torch.equal(first, scores(one)[0])
    assert torch.equal(second, scores(other)[0])
    assert not torch.equal(first, second)
    # In the end all regions are replaced, whatever the order: by the same.
    assert torch.equal(first[..., -1], second[..., -1])


@pytest.mark.parametrize("spoils", [False, True])
def test_images_are_whole_for_every_chunk_and_order(spoils: bool) -> None:
    """Room is used again: what a chunk leaves behind must not be seen in the next one."""
    x, watched = images(), Watched(spoils)
    before = x.clone()
    orders = random_ranks(x), random_ranks(x, seed=3)
    perturbed_scores(watched, perturber(x, Mean()), orders, ChunkSize(13))
    assert torch.equal(x, before)
    mean = x.mean(dim=(2, 3), keepdim=True).repeat_interleave(REPEATS * STEPS, dim=0)
    clean = x.repeat_interleave(REPEATS * STEPS, dim=0)
    steps = torch.arange(1, STEPS + 1).repeat(len(x) * REPEATS).view(-1, 1, 1, 1)
    for number, ranks in enumerate(orders):
        seen = torch.cat(watched.chunks[number::2])
        of_image = ranks.repeat_interleave(REPEATS * STEPS, dim=0)
        assert torch.equal(seen, torch.where(of_image < steps, mean, clean))


class Scaling(nn.Module):
    """Normalises its input, in place or not."""

    def __init__(self, in_place: bool, convolves: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.in_place = in_place
        self.first = nn.Conv2d(3, 3, 3, padding=1) if convolves else nn.Identity()
        self.last = nn.Linear(3 * 16 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.sub_(0.5).mul_(4) if self.in_place else (x - 0.5) * 4
        outputs: Tensor = self.last(self.first(x).flatten(1))
        return outputs


@pytest.mark.parametrize("convolves", [False, True])
@pytest.mark.parametrize("channels_last", [None, False, True])
def test_a_network_may_write_into_what_it_is_given(
    convolves: bool, channels_last: bool | None
) -> None:
    x = images().float()
    given, results = x.clone(), []
    for in_place in (False, True):
        model = Scaling(in_place, convolves)
        results.append(
            area_over_perturbation_curve(
                model, given, x[:, 0], execution=Execution(13, channels_last), **SETTINGS
            )
        )
    assert torch.equal(given, x)
    assert torch.equal(results[0].curves, results[1].curves)
    assert results[0].curves.std() > 0.01


@dataclass(frozen=True)
class Bright:
    """A user's replacement, in a type of its own."""

    is_random: ClassVar[bool] = True
    fresh_each_step: ClassVar[bool] = True
    dtype: torch.dtype

    def __call__(
        self, images: Tensor, low: Tensor, high: Tensor, generator: torch.Generator
    ) -> Tensor:
        return torch.ones(images.shape, dtype=self.dtype)


@pytest.mark.parametrize("of_images", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.uint8, torch.bool])
def test_replacements_of_another_type_are_converted(
    dtype: torch.dtype, of_images: torch.dtype
) -> None:
    x = torch.zeros(2, 1, 8, 8, dtype=of_images)
    model = nn.Sequential(nn.AvgPool2d(8), nn.Flatten())
    result = area_over_perturbation_curve(
        model, x, x[:, 0], region_size=4, steps=4, data_range=(0.0, 1.0), score="logit",
        replacement=Bright(dtype),
    )  # fmt: skip
    assert result.curves.tolist() == [[0.0, 0.25, 0.5, 0.75, 1.0]] * 2
