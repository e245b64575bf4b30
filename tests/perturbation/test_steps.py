"""One step of each stratum: unbiased, and the whole curve where every step is taken."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aopc_monitor import AOPC, area_over_perturbation_curve
from aopc_monitor.metrics.aopc_estimate import AOPCEstimate
from aopc_monitor.metrics.collected_areas import Quantity
from aopc_monitor.metrics.estimate import estimate_aopc
from aopc_monitor.metrics.functional.aopc import area_over_curve
from aopc_monitor.network.execution import Execution
from aopc_monitor.perturbation.steps import Strata
from tests.modules import small_network

CPU = torch.device("cpu")
counts = st.integers(1, 40).flatmap(lambda steps: st.tuples(st.just(steps), st.integers(1, steps)))


@given(counts, st.integers(0, 1000))
def test_one_step_of_each_part(steps_and_count: tuple[int, int], seed: int) -> None:
    strata = Strata(*steps_and_count)
    assert sum(strata.sizes) == strata.steps
    assert max(strata.sizes) - min(strata.sizes) <= 1
    drawn = strata.draw(5, torch.Generator().manual_seed(seed), CPU)
    ends = torch.tensor(strata.sizes).cumsum(0)
    starts = ends - torch.tensor(strata.sizes)
    assert ((drawn > starts) & (drawn <= ends)).all()


@given(counts)
def test_the_expected_area_is_that_of_all_steps(steps_and_count: tuple[int, int]) -> None:
    """Each step of a part is as likely as any other: the mean over them is the mean of the area."""
    strata = Strata(*steps_and_count)
    drops = torch.rand(strata.steps, dtype=torch.float64)
    means = torch.stack([part.mean() for part in drops.split(strata.sizes)])
    expected = drops.sum() / (strata.steps + 1)
    found = area_over_curve(torch.zeros(1), -means.expand(1, 1, -1), strata)
    torch.testing.assert_close(found, expected[None])


def test_each_step_is_as_likely_as_any_other() -> None:
    strata = Strata(steps=10, count=3)
    drawn = strata.draw(30_000, torch.Generator().manual_seed(0), CPU)
    for part, size in zip(drawn.unbind(1), strata.sizes, strict=True):
        frequencies = part.bincount()[part.min() :] / len(part)
        torch.testing.assert_close(frequencies, torch.full((size,), 1 / size), atol=0.02, rtol=0)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return small_network().eval()


def area(seed: int, **changes: object) -> float:
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    result = area_over_perturbation_curve(
        network(), images, images.mean(1), region_size=4, steps=12, data_range=(0.0, 1.0),
        generator=torch.Generator().manual_seed(seed), **changes,  # type: ignore[arg-type]
    )  # fmt: skip
    return float(result.mean)


def test_sampled_area_is_unbiased() -> None:
    sampled = torch.tensor([area(seed, sampled_steps=3) for seed in range(200)])
    whole = torch.tensor([area(1000 + seed) for seed in range(50)])
    error = (sampled.var() / len(sampled) + whole.var() / len(whole)).sqrt()
    assert abs(sampled.mean() - whole.mean()) < 3 * error


POPULATION = 4000
STUDENTS_T = 2.001  # 95% of 60 images


@pytest.fixture(scope="module")
def samples() -> tuple[AOPCEstimate, list[AOPCEstimate]]:
    """All steps of a population of images, and three of them of many samples of its images."""
    torch.manual_seed(0)
    linear, last = torch.nn.Linear(64, 16), torch.nn.Linear(16, 3)
    linear.weight.data.mul_(2), last.weight.data.mul_(4)
    model = torch.nn.Sequential(torch.nn.Flatten(), linear, torch.nn.Tanh(), last)
    population = torch.rand(POPULATION, 1, 8, 8)
    population[..., :4, :4] *= torch.rand(POPULATION, 1, 1, 1)

    def estimate(images: torch.Tensor, seed: int, sampled_steps: int | None) -> AOPCEstimate:
        return estimate_aopc(
            model, [images], lambda model, x, target: x[:, 0], region_size=2, steps=12,
            data_range=(0.0, 1.0), sampled_steps=sampled_steps, seed=seed, execution=Execution(256),
        )  # fmt: skip

    # Four draws of all noise and of the random order.
    whole = estimate(population.repeat(4, 1, 1, 1), seed=0, sampled_steps=None)
    choices = torch.randint(POPULATION, (600, 60))
    return whole, [
        estimate(population[chosen], seed, sampled_steps=3) for seed, chosen in enumerate(choices)
    ]


@pytest.mark.parametrize("of", ["aopc", "gain"])
def test_intervals_cover_the_truth_as_often_as_they_say(
    samples: tuple[AOPCEstimate, list[AOPCEstimate]], of: Quantity
) -> None:
    """The share of 600 intervals of 95% has a standard error of 0.9%."""
    whole, estimates = samples
    truth = getattr(whole, of)
    found = [getattr(estimate, of) for estimate in estimates]
    off = torch.tensor([(estimate.mean - truth.mean) / estimate.sem for estimate in found])
    assert 0.93 <= float((off.abs() <= STUDENTS_T).float().mean()) <= 0.97
    # And not since errors at one end make up for those at the other: 2.5% at each, sem 0.6%.
    assert 0.005 <= float((off > STUDENTS_T).float().mean()) <= 0.045
    assert abs(float(off.mean())) < 3 / len(off) ** 0.5
    assert truth.sem < found[0].sem / 10  # the truth is known well enough for this


def test_as_many_samples_as_steps_are_the_whole_curve() -> None:
    assert area(0, sampled_steps=12) == area(0)


def test_curve_has_the_steps_that_were_evaluated() -> None:
    images = torch.rand(3, 3, 16, 16)
    result = area_over_perturbation_curve(
        network(), images, images.mean(1), region_size=4, steps=12, data_range=(0.0, 1.0),
        sampled_steps=4,
    )  # fmt: skip
    assert (~result.curves.isnan()).sum(dim=1).tolist() == [5, 5, 5]
    assert result.forwards == 3 * (1 + 4)
    metric = AOPC(region_size=4, steps=12, data_range=(0.0, 1.0), sampled_steps=4)
    for part in torch.rand(40, 3, 16, 16).split(8):
        metric.update(network(), part)
    assert torch.isfinite(metric.curve()).sum() > 10


@pytest.mark.parametrize(
    ("sampled_steps", "message"),
    [(0, "sampled_steps=0 must be"), (13, "sampled_steps=13 is more than steps=12")],
)
def test_wrong_numbers_are_named(sampled_steps: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        area(0, sampled_steps=sampled_steps)
