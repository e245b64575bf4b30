"""Differences between two estimates: paired batch by batch, or not at all."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor.metrics.aopc_estimate import AOPCEstimate, difference
from aopc_monitor.metrics.collected_areas import Quantity
from tests.metrics.test_estimate import SIZE, batches, estimate, network


def darkness(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    return -x.mean(dim=1)


def trained_on(model: nn.Sequential) -> nn.Sequential:
    """The next checkpoint."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data.mul_(1 + 0.1 * torch.rand_like(parameter))
    return model


def assert_is_mean_of(values: Tensor, found: Any) -> None:
    assert found.mean == pytest.approx(float(values.mean()), abs=1e-12)
    assert found.sem == pytest.approx(float(values.std() / len(values) ** 0.5), abs=1e-12)
    assert found.z == pytest.approx(found.mean / found.sem)


@pytest.mark.parametrize("of", ["aopc", "gain"])
def test_difference_is_the_mean_of_differences_of_images(of: Quantity) -> None:
    before, after = estimate(), estimate(model=trained_on(network()))
    found = difference(after, before, of)
    assert_is_mean_of(after.per_image(of) - before.per_image(of), found)
    assert found.sem < after.aopc.sem / 2  # what pairing is for
    turned = difference(before, after, of)
    assert (turned.mean, turned.sem) == pytest.approx((-found.mean, found.sem))


def test_heatmaps_are_compared_on_the_same_images_and_noise() -> None:
    one, other = estimate(), estimate(heatmap=darkness)
    assert_is_mean_of(one.per_image() - other.per_image(), difference(one, other))
    # The random order was the same for both, so that it falls out of the difference.
    assert difference(one, other, "gain").mean == pytest.approx(difference(one, other).mean)


@pytest.mark.parametrize("of", ["aopc", "gain"])
def test_a_checkpoint_does_not_differ_from_itself(of: Quantity) -> None:
    found = difference(estimate(), estimate(chunk_size=128), of)
    assert found.mean == 0
    assert found.sem == 0
    assert math.isnan(found.z)


def test_other_chunks_and_layouts_compare() -> None:
    one = estimate()
    for choices in ({"chunk_size": 7}, {"channels_last": False}, {"control": False}):
        other = estimate(**choices)
        assert difference(one, other).mean == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("of", ["aopc", "gain"])
def test_estimates_of_more_and_fewer_batches_are_compared_on_the_common_ones(of: Quantity) -> None:
    few = estimate(batches(4), target_sem=100.0)
    assert few.num_images == 3 * SIZE
    more = estimate(batches(5), trained_on(network()))
    values = more.per_image(of)[: 3 * SIZE] - few.per_image(of)
    assert_is_mean_of(values, difference(more, few, of))
    assert_is_mean_of(-values, difference(few, more, of))


def test_batches_are_known_by_their_content_wherever_they_come() -> None:
    one, other = estimate(batches()), estimate(batches()[::-1], trained_on(network()))
    of_other = torch.cat(list(other.per_image().split(SIZE))[::-1])
    assert_is_mean_of(one.per_image() - of_other, difference(one, other))


def test_a_batch_that_comes_twice_counts_twice() -> None:
    (x,) = batches(1)
    twice = estimate([x, x])
    assert twice.num_images == 2 * SIZE
    assert torch.equal(*twice.per_image().split(SIZE))
    other = estimate([x, x, x], trained_on(network()))
    assert_is_mean_of(twice.per_image() - other.per_image()[: 2 * SIZE], difference(twice, other))


def shuffled() -> tuple[Tensor, ...]:
    images = torch.cat(batches())
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(3))].split(20)


OTHERS: dict[str, dict[str, Any]] = {
    "shuffled": {"of": shuffled()},
    "other images": {"of": [x / 2 for x in batches()]},
    "batches of another size": {"of": torch.cat(batches()).split(30)},
    "another order in the batch": {"of": [x.flip(0) for x in batches()]},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_other_batches_are_an_error(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"60 images.*no batch in common.*without shuffling"):
        difference(estimate(), estimate(**other))


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"steps": 11},
        {"region_size": 3},
        {"sampled_steps": 3},
        {"sampled_steps": None},
        {"repeats": 2},
        {"replacement": "mean"},
        {"score": "logit"},
        {"data_range": (0.0, 1.5)},
        {"autocast": torch.bfloat16},
    ],
    ids=str,
)
def test_other_settings_are_an_error(other: dict[str, Any]) -> None:
    a, b = estimate(batches(1)), estimate(batches(1), **other)
    with pytest.raises(ValueError, match="measured under other settings"):
        difference(a, b)


def test_the_gain_needs_the_control_of_both() -> None:
    with_it, without = estimate(), estimate(control=False)
    pairs: list[tuple[AOPCEstimate, AOPCEstimate]] = [(with_it, without), (without, with_it)]
    for a, b in pairs:
        with pytest.raises(ValueError, match="control=True"):
            difference(a, b, "gain")
        assert difference(a, b).mean == 0
