"""Every metric on series, volumes and tables, and on regions of one's own."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import AOPC, area_over_perturbation_curve, difference, estimate_aopc
from aopc_monitor.metrics import (
    HeatmapComplexity,
    SensitivityN,
    SymmetricRelevanceGain,
    aopc_bounds,
    file_size,
    sensitivity_n,
    shannon_entropy,
)
from aopc_monitor.metrics.evaluation import evaluate, plan
from aopc_monitor.metrics.functional.subsets import random_subsets
from aopc_monitor.perturbation import ProtocolChoices, kind_of
from aopc_monitor.perturbation.replacements import Constant

SETTINGS: dict[str, dict[str, Any]] = {
    "series": {"region_size": 3, "data_range": (0.0, 1.0)},
    "volumes": {"region_size": (2, 3, 2), "data_range": ([0.0, -0.5], [1.0, 1.5])},
    "tables": {"data_range": ([0.0] * 9, [1.0] * 9)},
}
MIDDLE = 0.5
SHAPES = {"series": (6, 2, 24), "volumes": (6, 2, 4, 6, 4), "tables": (6, 9)}


def inputs_of(kind: str, seed: int = 1) -> Tensor:
    return torch.rand(SHAPES[kind], generator=torch.Generator().manual_seed(seed))


def network(inputs: Tensor) -> nn.Module:
    torch.manual_seed(0)
    size = inputs[0].numel()
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 6), nn.Tanh(), nn.Linear(6, 4)).eval()


def from_the_middle(model: nn.Module, inputs: Tensor, target: Tensor | None = None) -> Tensor:
    x = inputs.detach().clone().requires_grad_()
    outputs = model(x)
    classes = outputs.argmax(dim=1) if target is None else target
    (gradient,) = torch.autograd.grad(outputs.gather(1, classes[:, None]).sum(), x)
    relevance = gradient * (x.detach() - MIDDLE)
    return relevance.sum(dim=1) if kind_of(inputs).has_channels else relevance


@pytest.mark.parametrize("kind", SHAPES)
def test_the_metric_is_the_mean_of_the_function(kind: str) -> None:
    inputs, settings = inputs_of(kind), SETTINGS[kind] | {"steps": 5, "replacement": "constant"}
    model = network(inputs)
    metric = AOPC(from_the_middle, **settings)
    gain = SymmetricRelevanceGain(from_the_middle, **settings)
    for batch in inputs.split(3):
        metric.update(model, batch)
        gain.update(model, batch)
    heatmaps = from_the_middle(model, inputs)
    first, last = (
        area_over_perturbation_curve(model, inputs, heatmaps, order=order, **settings)
        for order in ("morf", "lerf")
    )
    torch.testing.assert_close(metric.compute(), first.mean.float())
    torch.testing.assert_close(metric.curve(), first.curve.float())
    torch.testing.assert_close(gain.compute(), (first.per_image - last.per_image).mean().float())
    assert first.mean > last.mean


@pytest.mark.parametrize("kind", SHAPES)
def test_estimates_of_data_sets(kind: str) -> None:
    batches = [inputs_of(kind), inputs_of(kind, seed=2)]
    model, settings = network(batches[0]), SETTINGS[kind] | {"steps": 8}
    found = estimate_aopc(model, batches, from_the_middle, **settings)
    assert found.num_images == 12
    assert found.gain.mean > 0
    again = estimate_aopc(model, batches, lambda *given: -from_the_middle(*given), **settings)
    assert difference(found, again).mean > 0


@pytest.mark.parametrize("kind", SHAPES)
def test_an_evaluation_and_its_plan(kind: str) -> None:
    inputs = inputs_of(kind)
    protocol = ProtocolChoices(data_range=SETTINGS[kind]["data_range"]).for_images(inputs)
    heatmaps: dict[str, Any] = {"wx": from_the_middle}
    found = evaluate(network(inputs), inputs, None, heatmaps, protocol, 0, lerf=True)
    assert found.num_images == 6
    assert found.mean("wx_gain") == pytest.approx(found.mean("wx") - found.mean("random"), abs=1e-6)
    assert found.mean("wx_srg") == pytest.approx(found.mean("wx") - found.mean("wx_lerf"), abs=1e-6)
    line = plan(inputs, ["wx"], protocol, range_read_off=False)
    assert line.startswith({
        "series": "6 series of 24, regions of 3 time steps, 4 steps, wx and a random order: 54 for",
        "volumes": "6 volumes of 4 x 6 x 4, regions of 2 x 2 x 2, 4 sampled of 6 steps, wx",
        "tables": "6 tables of 9, regions of 1 feature, 4 steps, wx and a random order",
    }[kind])  # fmt: skip


def maps_of(inputs: Tensor) -> Tensor:
    """`(N, *space)` numbers of 3 or 4 regions, and -1 at one location."""
    space = kind_of(inputs).locations(inputs)[1:]
    numbers = torch.arange(torch.Size(space).numel()).view(space)
    maps = torch.stack([numbers % (3 + n % 2) for n in range(len(inputs))])
    maps.flatten(1)[:, -1] = -1
    return maps


@pytest.mark.parametrize("kind", SHAPES)
def test_regions_come_with_the_batch_or_by_a_function(kind: str) -> None:
    inputs = inputs_of(kind)
    model, settings = network(inputs), {"steps": 6, "replacement": Constant(0.5)}
    with_batch = AOPC(from_the_middle, **settings)
    by_function = AOPC(from_the_middle, regions=maps_of, **settings)
    for batch in inputs.split(3):
        with_batch.update(model, batch, regions=maps_of(batch))
        by_function.update(model, batch)
    heatmaps = from_the_middle(model, inputs)
    maps = torch.cat([maps_of(batch) for batch in inputs.split(3)])
    expected = area_over_perturbation_curve(model, inputs, heatmaps, regions=maps, **settings)
    torch.testing.assert_close(with_batch.compute(), expected.mean.float())
    torch.testing.assert_close(by_function.curve(), expected.curve.float())
    with pytest.raises(ValueError, match="regions has shape"):
        with_batch.update(model, inputs[:2], regions=maps_of(inputs))
    with pytest.raises(ValueError, match="other settings"):
        with_batch.merge_state(by_function)


def test_estimates_by_regions_of_a_function_and_of_one_map() -> None:
    inputs = inputs_of("series")
    model, settings = network(inputs), {"steps": 3, "replacement": Constant(0.5)}
    shared = maps_of(inputs)[0]
    for regions, given in ((maps_of, maps_of(inputs)), (shared, shared)):
        found = estimate_aopc(
            model, [inputs], from_the_middle, regions=regions, sampled_steps=None, **settings
        )
        expected = area_over_perturbation_curve(
            model, inputs, from_the_middle(model, inputs), regions=given, **settings
        )
        torch.testing.assert_close(found.per_image(), expected.per_image.double())


def test_a_metric_without_regions_tells_it_at_the_first_batch() -> None:
    metric = AOPC(from_the_middle, steps=2, data_range=(0.0, 1.0))
    with pytest.raises(ValueError, match="region_size is missing: give the side of regions in tim"):
        metric.update(network(inputs_of("series")), inputs_of("series"))
    without_range = AOPC(from_the_middle, steps=2, region_size=4)
    with pytest.raises(ValueError, match="data_range is missing"):
        without_range.update(network(inputs_of("series")), inputs_of("series"))
    metric.update(network(inputs_of("tables")), inputs_of("tables"))
    assert metric.compute().isfinite()


@pytest.mark.parametrize("step_is", ["region", "share"])
@pytest.mark.parametrize("kind", SHAPES)
def test_bounds_are_those_of_all_orders(kind: str, step_is: Any) -> None:
    inputs = inputs_of(kind)[:2]
    model, maps = network(inputs), maps_of(inputs)
    settings: dict[str, Any] = {
        "regions": maps, "step_is": step_is, "steps": 3 if step_is == "region" else 7,
        "replacement": Constant(0.5),
    }  # fmt: skip
    found = aopc_bounds(model, inputs, beam_size=10, **settings)
    areas = []
    for order in permutations(range(4)):
        # The heatmap of a region is its place in the order.
        relevance = torch.tensor([*order, 0], dtype=torch.float32)[maps]
        areas.append(area_over_perturbation_curve(model, inputs, relevance, **settings).per_image)
    every = torch.stack(areas)
    torch.testing.assert_close(found.lower, every.amin(dim=0), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.upper, every.amax(dim=0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", SHAPES)
@torch.no_grad()
def test_sensitivity_n_by_its_definition(kind: str) -> None:
    inputs = inputs_of(kind)[:2].double()
    model, maps = network(inputs).double(), maps_of(inputs)
    shape = kind_of(inputs).locations(inputs)
    heatmaps = torch.rand(shape, generator=torch.Generator().manual_seed(3))
    result = sensitivity_n(
        model, inputs, heatmaps, n=[1, 2], subsets=9, regions=maps,
        generator=torch.Generator().manual_seed(4),
    )  # fmt: skip
    sizes = torch.tensor([1, 2]).repeat_interleave(9).repeat(2)
    numbers = torch.tensor([3, 4]).repeat_interleave(18)
    drawn = random_subsets(sizes, numbers, torch.Generator().manual_seed(4)).view(2, 2, 9, 4)
    for i, k in ((0, 0), (0, 1), (1, 0), (1, 1)):
        clean, sums, drops = model(inputs[i, None])[0], [], []
        target = int(clean.argmax())
        for subset in drawn[i, k]:
            removed = torch.isin(maps[i], subset.nonzero()[:, 0])
            perturbed = torch.where(removed, 0.0, inputs[i])
            sums.append(float(heatmaps[i][removed].double().sum()))
            drops.append(float(clean[target] - model(perturbed[None])[0, target]))
        expected = np.corrcoef(sums, drops)[0, 1]
        assert float(result.correlations[i, k]) == pytest.approx(expected, abs=1e-9)
    with pytest.raises(ValueError, match="n=4 is more than the 3 features of your own"):
        sensitivity_n(model, inputs, heatmaps, n=4, regions=maps)


@pytest.mark.parametrize("kind", SHAPES)
def test_sensitivity_n_of_grids(kind: str) -> None:
    """A linear network keeps what its gradient promises, whatever the features."""
    inputs = inputs_of(kind)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(inputs[0].numel(), 3))
    size = SETTINGS[kind].get("region_size")
    metric = SensitivityN(from_the_middle, n=[1, 3], subsets=20, region_size=size, baseline=MIDDLE)
    metric.update(model, inputs)
    assert float(metric.compute()) == pytest.approx(1.0, abs=1e-4)
    if kind == "tables":
        with pytest.raises(ValueError, match='baseline="mean" leaves tables as they are'):
            SensitivityN(from_the_middle, n=1, baseline="mean").update(model, inputs)


def test_complexity_of_heatmaps_of_any_kind() -> None:
    volumes = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    series = volumes.flatten(1)
    below = volumes.flatten(1, 2)
    assert torch.equal(file_size(volumes), file_size(below))
    assert torch.equal(file_size(series), file_size(series[:, None]))
    for shaped in (series, below):
        assert torch.equal(shannon_entropy(volumes), shannon_entropy(shaped))
    metric = HeatmapComplexity(measure="entropy")
    metric.update(volumes)
    torch.testing.assert_close(metric.compute(), shannon_entropy(volumes).mean().float())
