"""What forward takes after the images: the same in the function, the metrics and the estimate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import (
    AOPC,
    SymmetricRelevanceGain,
    area_over_perturbation_curve,
    estimate_aopc,
)
from aopc_monitor.metrics import SensitivityN, aopc_bounds, sensitivity_n
from aopc_monitor.utilities.batches import BatchFormError

IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
AGES = torch.arange(6.0)[:, None] - 2.5
REGIONS: dict[str, Any] = {"region_size": 4, "steps": 3, "data_range": (0.0, 1.0)}


class WithAge(nn.Module):
    """Its answer depends on the image and on an age, which moves it far."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4))
        self.of_age = nn.Linear(1, 4)

    def forward(self, images: Tensor, age: Tensor, mode: str = "") -> Tensor:
        return self.body(images) + 3 * self.of_age(age)  # type: ignore[no-any-return]


def by_function(network: nn.Module, **given: Any) -> float:
    found = area_over_perturbation_curve(network, IMAGES, IMAGES.mean(1), **REGIONS, **given)
    return float(found.mean)


def by_metric(network: nn.Module, **given: Any) -> float:
    metric = AOPC(lambda model, x, target: x.mean(1), **REGIONS)
    metric.update(network, IMAGES, **given)
    return float(metric.compute())


def by_gain(network: nn.Module, **given: Any) -> float:
    metric = SymmetricRelevanceGain(lambda model, x, target: x.mean(1), **REGIONS)
    metric.update(network, IMAGES, **given)
    return float(metric.compute())


def by_estimate(network: nn.Module, inputs: Any = ()) -> float:
    found = estimate_aopc(
        network,
        [{"image": IMAGES, "age": inputs}],
        lambda model, x, target: x.mean(1),
        **REGIONS,
        inputs_fn=lambda batch: batch["age"],
    )
    return found.aopc.mean


def by_sensitivity_n(network: nn.Module, **given: Any) -> float:
    found = sensitivity_n(network, IMAGES, IMAGES.mean(1), n=4, subsets=9, **given)
    return float(found.mean)


def by_its_metric(network: nn.Module, **given: Any) -> float:
    metric = SensitivityN(lambda model, x, target: x.mean(1), n=4, subsets=9)
    metric.update(network, IMAGES, **given)
    return float(metric.compute())


def by_bounds(network: nn.Module, **given: Any) -> float:
    return float(aopc_bounds(network, IMAGES, **REGIONS, **given).upper.mean())


WAYS: list[Callable[..., float]] = [
    by_function, by_metric, by_gain, by_estimate, by_sensitivity_n, by_its_metric, by_bounds
]  # fmt: skip


class OneByOne(nn.Module):
    """The same network, which knows the age of an image that was only perturbed in part."""

    def __init__(self, network: WithAge) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        same = (images[:, None] == IMAGES[None]).flatten(2).sum(dim=2)
        return self.network(images, AGES[same.argmax(dim=1)])  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", WAYS)
def test_inputs_stay_with_their_images(way: Callable[..., float]) -> None:
    expected = way(OneByOne(WithAge()), **({"inputs": ()} if way is by_estimate else {}))
    for inputs in (AGES, (AGES,), {"age": AGES}, {"age": AGES, "mode": "fast"}):
        assert way(WithAge(), inputs=inputs) == pytest.approx(expected, abs=1e-6)
    assert way(WithAge(), inputs=AGES.flip(0)) != pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_inputs_of_another_number_are_told(way: Callable[..., float]) -> None:
    with pytest.raises(
        BatchFormError, match=r"\(3, 1\) float32; wanted is one row for each of the 6"
    ):
        way(WithAge(), inputs=AGES[:3])


def test_heatmaps_get_the_inputs_too() -> None:
    metric = AOPC("gradient_x_input", **REGIONS)
    metric.update(WithAge(), IMAGES, inputs=AGES)
    expected = AOPC("gradient_x_input", **REGIONS)
    expected.update(OneByOne(WithAge()), IMAGES)
    torch.testing.assert_close(metric.compute(), expected.compute())
