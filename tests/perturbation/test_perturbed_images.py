"""Perturbed images of several chunks at once: the same as chunk by chunk, and whole for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import area_over_perturbation_curve
from aopc_monitor.network.chunks import ChunkSize
from aopc_monitor.network.execution import Execution, Room
from aopc_monitor.perturbation import perturbed_images
from aopc_monitor.perturbation.curve import perturbed_scores
from aopc_monitor.perturbation.perturbed_images import PerturbedImages
from aopc_monitor.perturbation.perturber import Block
from aopc_monitor.perturbation.replacements import Mean, Uniform
from tests.perturbation.test_curve import REPEATS, STEPS, images, perturber, random_ranks

COUNT = 5 * REPEATS * STEPS


class Made:
    """Counts how many images each call writes."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def __call__(self, block: Block, rank_map: Tensor, out: Tensor) -> None:
        self.counts.append(len(out))
        block.perturbed(rank_map, out)


def seen_by(
    score: Callable[[Tensor, Tensor], Tensor], chunk_size: ChunkSize, orders: int = 2
) -> Tensor:
    ranks = [random_ranks(images(), seed) for seed in range(orders)]
    return perturbed_scores(score, perturber(images(), Uniform()), ranks, chunk_size)


def summed(x: Tensor, image: Tensor) -> Tensor:
    return x.flatten(1) @ torch.linspace(-1, 1, x[0].numel(), dtype=x.dtype) + image


@pytest.mark.parametrize("orders", [1, 3])
@pytest.mark.parametrize("chunk_size", [7, 64])
def test_chunks_are_those_that_are_made_one_by_one(
    chunk_size: int, orders: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = seen_by(summed, ChunkSize(chunk_size), orders)
    monkeypatch.setattr(perturbed_images, "MADE_AT_ONCE", 0)
    monkeypatch.setattr(perturbed_images, "MOST_AT_ONCE", 0)
    torch.testing.assert_close(
        together, seen_by(summed, ChunkSize(chunk_size), orders), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("is_timed", [False, True])
def test_small_ones_are_made_for_several_chunks(is_timed: bool) -> None:
    """Unless somebody takes the time of a chunk, which then has to be that of one."""
    x, made = images(), Made()
    of = PerturbedImages(perturber(x, Mean()).draws(), [random_ranks(x)] * 2, Room(x), made)
    for start in range(0, 64, 16):
        chunks = list(of.of(start, start + 16, is_timed))
        assert [len(chunk) for chunk, _ in chunks] == [16, 16]
        assert sum(made.counts) == (2 * (start + 16) if is_timed else 2 * COUNT)


@pytest.mark.parametrize("is_timed", [False, True])
def test_many_orders_share_the_room_of_one(is_timed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x = images()
    monkeypatch.setattr(perturbed_images, "MADE_AT_ONCE", 0)
    monkeypatch.setattr(perturbed_images, "MOST_AT_ONCE", 2 * 16 * x[0].numel() - 1)
    of = PerturbedImages(perturber(x, Mean()).draws(), [random_ranks(x)] * 2, Room(x), Made())
    first, second = (chunk.data_ptr() for chunk, _ in of.of(0, 16, is_timed))
    assert first == second


class InPlace(Mean):
    """An imputation of a user's own that writes into the images it is given."""

    def impute(
        self, images: Tensor, perturbed: Tensor, replaced: Tensor, low: Tensor, high: Tensor
    ) -> Tensor:
        return images.copy_(torch.where(perturbed, replaced, images))


def test_an_imputation_that_writes_into_images_does_not_reach_the_next_order() -> None:
    x, size = images(), ChunkSize(16)
    ranks = [random_ranks(x, seed) for seed in range(3)]
    found = perturbed_scores(summed, perturber(x, InPlace()), ranks, size)
    expected = perturbed_scores(summed, perturber(x, Mean()), ranks, size)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


class Short:
    """A score that writes into what it sees, and once has too little memory afterwards."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor, image: Tensor) -> Tensor:
        self.calls += 1
        found = summed(x, image)
        x.fill_(float("nan"))
        if self.calls == 4:
            raise MemoryError
        return found


def test_a_chunk_that_memory_did_not_suffice_for_is_made_again() -> None:
    size = ChunkSize(32)
    found = seen_by(Short(), size)
    assert size.size == 16
    torch.testing.assert_close(found, seen_by(summed, ChunkSize(32)), rtol=0, atol=1e-12)


@dataclass
class Probabilities:
    """A user's own score, which is what "probability" is; it has no hash."""

    counts: list[int] = field(default_factory=list)

    def __call__(self, outputs: Tensor, target: Tensor) -> Tensor:
        self.counts.append(len(outputs))
        return outputs.double().softmax(dim=1).gather(1, target[:, None])[:, 0]


def test_a_score_of_the_users_own_is_given_the_outputs_of_one_forward() -> None:
    """Named ones are found when all outputs are there, and are the same."""
    torch.manual_seed(0)
    x, own = images().float(), Probabilities()
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(784, 5))
    results = [
        area_over_perturbation_curve(
            model, x, x.mean(1), region_size=4, steps=16, data_range=(-1.0, 2.0), score=score,
            execution=Execution(13),
        )
        for score in ("probability", own)
    ]  # fmt: skip
    assert max(own.counts) == 13
    torch.testing.assert_close(results[0].curves, results[1].curves, rtol=0, atol=1e-12)
    assert results[0].curves.std() > 1e-4
