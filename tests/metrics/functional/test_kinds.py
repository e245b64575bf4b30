"""Eq. 11 and 12 on every kind of input, and with regions of one's own, against a plain loop."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import area_over_perturbation_curve
from aopc_monitor.network.asked import ForwardError
from aopc_monitor.network.execution import Execution
from aopc_monitor.perturbation import kind_of
from aopc_monitor.perturbation.data_range import data_range_tensors
from aopc_monitor.perturbation.regions import ORDERS, Grid
from aopc_monitor.perturbation.replacements import (
    REPLACEMENTS,
    Constant,
    Replacement,
    get_replacement,
    suits,
)
from tests.reference import Places, curves_by_recursion, places_in, regions_of

RANGE = (-1.0, 2.0)
# A number per dimension and not of each the same; a margin is left.
SHAPES: dict[str, tuple[tuple[int, ...], Any]] = {
    "series": ((3, 2, 23), 4),
    "volumes": ((3, 2, 5, 6, 7), (2, 3, 2)),
    "images": ((3, 2, 8, 7), (3, 2)),
    "tables": ((3, 9), None),
}
CASES = [
    (kind, name)
    for kind, (shape, _) in SHAPES.items()
    for name in REPLACEMENTS
    if suits(get_replacement(name), kind_of(torch.zeros(shape)))
]


def inputs_of(kind: str) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(SHAPES[kind][0], generator=generator, dtype=torch.float64) * 3 - 1


def heatmaps_of(inputs: Tensor) -> Tensor:
    """With ties, of numbers whose sums have no rounding error."""
    shape = kind_of(inputs).locations(inputs)
    numbers = torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(2))
    return numbers.double() / 4


def network(inputs: Tensor) -> nn.Module:
    torch.manual_seed(0)
    size = inputs[0].numel()
    layers = nn.Flatten(), nn.Linear(size, 6), nn.Tanh(), nn.Linear(6, 4)
    return nn.Sequential(*layers).double().eval()


def literal(name: str) -> Replacement:
    """The replacement with the noise of eq. 11, in which a region once replaced stays as it is."""
    g = get_replacement(name)
    return dataclasses.replace(g, fresh_each_step=False) if g.fresh_each_step else g  # type: ignore[type-var]


def check_against_recursion(
    inputs: Tensor,
    places: list[Places],
    counts: list[list[int]],
    replacement: Replacement,
    order: Any,
    relevance_is: Any = "mean",
    **settings: Any,
) -> None:
    model, heatmaps = network(inputs), heatmaps_of(inputs)
    result = area_over_perturbation_curve(
        model, inputs, heatmaps, data_range=RANGE, order=order, replacement=replacement, repeats=2,
        execution=Execution(7), generator=torch.Generator().manual_seed(5), **settings,
    )  # fmt: skip
    space = [1] * (inputs.ndim - 2)
    low, high = (
        bound.view(-1, *space) for bound in data_range_tensors(RANGE, channels=inputs.shape[1])
    )
    slow = curves_by_recursion(
        model, inputs, heatmaps, places, counts, low=low, high=high, order=order,
        replacement=replacement, repeats=2 if replacement.is_random else 1, seed=5,
        relevance_is=relevance_is,
    )  # fmt: skip
    torch.testing.assert_close(result.curves, slow, rtol=0, atol=1e-6)
    areas = (slow[:, :1] - slow).sum(dim=1) / slow.shape[1]
    torch.testing.assert_close(result.per_image, areas, rtol=0, atol=1e-6)
    assert slow.std(dim=1).min() > 1e-3


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_fast_path_equals_the_recursion(kind: str, name: str, order: str) -> None:
    inputs, size = inputs_of(kind), SHAPES[kind][1]
    places = regions_of(Grid(kind_of(inputs).locations(inputs)[1:], 1 if size is None else size))
    steps = len(places) - (len(places) > 5)
    counts = [list(range(steps + 1))] * len(inputs)
    check_against_recursion(
        inputs, [places] * 3, counts, literal(name), order, region_size=size, steps=steps
    )


def maps_of(inputs: Tensor) -> Tensor:
    """`(N, *space)` numbers of scattered regions, 4 to 6 of them, and -1 at some locations."""
    generator = torch.Generator().manual_seed(3)
    space = kind_of(inputs).locations(inputs)[1:]
    maps = [torch.randint(-1, count, space, generator=generator) for count in (4, 6, 5)]
    for count, of_input in zip((4, 6, 5), maps, strict=True):  # none is missing
        of_input.flatten()[:count] = torch.arange(count)
    return torch.stack(maps)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_one_map_of_regions_for_all_inputs(kind: str, name: str, order: str) -> None:
    inputs = inputs_of(kind)
    shared = maps_of(inputs)[1]
    counts = [list(range(7))] * len(inputs)
    check_against_recursion(
        inputs, [places_in(shared)] * 3, counts, literal(name), order, regions=shared, steps=6
    )


@pytest.mark.parametrize("relevance_is", ["mean", "sum"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_steps_are_shares_of_the_regions_of_each_input(
    kind: str, name: str, order: str, relevance_is: str
) -> None:
    inputs = inputs_of(kind)
    maps = maps_of(inputs)
    # round(k / 8 * R) for R = 4, 6 and 5, a half upwards.
    counts = [
        [0, 1, 1, 2, 2, 3, 3, 4, 4],
        [0, 1, 2, 2, 3, 4, 5, 5, 6],
        [0, 1, 1, 2, 3, 3, 4, 4, 5],
    ]
    check_against_recursion(
        inputs, [places_in(one) for one in maps], counts, literal(name), order, relevance_is,
        regions=maps, region_relevance=relevance_is, steps=8,
    )  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
def test_regions_by_a_function_and_steps_of_one_region(order: str) -> None:
    inputs = inputs_of("series")
    maps = maps_of(inputs)

    def function(given: Tensor) -> Any:
        given.zero_()  # a copy
        return maps.numpy()

    check_against_recursion(
        inputs, [places_in(one) for one in maps], [[0, 1, 2, 3, 4]] * 3, literal("uniform"), order,
        regions=function, step_is="region", steps=4,
    )  # fmt: skip


@pytest.mark.parametrize("kind", SHAPES)
def test_linear_model_has_its_closed_form(kind: str) -> None:
    """f = w . x: each step removes its region's contribution for good."""
    x = inputs_of(kind)
    weight = torch.randn(x[0].shape, generator=torch.Generator().manual_seed(4)).double()
    model = nn.Sequential(nn.Flatten(), nn.Linear(weight.numel(), 2, bias=False)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([weight.flatten(), -weight.flatten()]))
    drops = weight * (x - 0.5)
    heatmaps = drops.sum(dim=1) if kind_of(x).has_channels else drops
    maps = maps_of(x)
    result = area_over_perturbation_curve(
        model, x, heatmaps, regions=maps, region_relevance="sum", step_is="region", steps=4,
        replacement=Constant(0.5), score="logit", target=torch.zeros(3, dtype=torch.long),
    )  # fmt: skip
    for area, of_input, one in zip(result.per_image, heatmaps, maps, strict=True):
        of_regions = torch.stack([of_input[one == r].sum() for r in range(int(one.max()) + 1)])
        largest = of_regions.sort(descending=True).values[:4]
        torch.testing.assert_close(area, largest.cumsum(0).sum() / 5, rtol=0, atol=1e-9)


def test_sampled_shares_are_unbiased() -> None:
    inputs = inputs_of("tables")
    settings: dict[str, Any] = {"regions": maps_of(inputs), "steps": 8, "data_range": RANGE}
    model, heatmaps = network(inputs), heatmaps_of(inputs)
    # Ties would be drawn anew for each estimate.
    heatmaps += torch.rand(heatmaps.shape, generator=torch.Generator().manual_seed(0)) * 0.01
    constant = Constant(0.1)
    whole, *sampled = (
        area_over_perturbation_curve(
            model, inputs, heatmaps, replacement=constant, sampled_steps=count,
            generator=torch.Generator().manual_seed(seed), **settings,
        ).per_image
        for count, seed in [(None, 0), *((2, seed) for seed in range(300))]
    )  # fmt: skip
    found = torch.stack(sampled)
    error = found.std(dim=0) / len(found) ** 0.5
    assert (error > 0).any()
    assert ((found.mean(dim=0) - whole).abs() <= 4 * error + 1e-9).all()


SERIES = torch.rand(2, 1, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "region_size is missing: give the side of regions in time steps, such as region_size"),
        ({"region_size": (2, 2)}, r"region_size=\(2, 2\) has 2 numbers for series, which have 1 d"),
        ({"region_size": 7}, "region_size=7 does not fit series of 6 time steps: give a whole num"),
        ({"region_size": 0}, "region_size=0 must be a whole number of at least 1"),
        ({"region_size": 2, "steps": 4}, "steps=4 is more than the 3 regions of 2 time steps that"),
        ({"regions": [0] * 6, "region_size": 2}, "region_size=2 and regions are both given"),
        ({"regions": [0, 0, 1, 1, 3, 3]}, "regions skips number 2 in input 0, which has regions"),
        ({"regions": [[0] * 6, [1] * 6]}, "regions skips number 0 in input 1"),
        ({"regions": [-1] * 6}, "regions is -1 everywhere in input 0, so that nothing"),
        ({"regions": [0, 1, -2, 0, 0, 0]}, "regions holds -2; wanted are numbers from 0 on"),
        ({"regions": [0, 1]}, r"regions has shape \(2,\); wanted is \(6,\) for all inputs, or \(2"),
        ({"regions": torch.zeros(1, 6).long()}, r"regions has shape \(1, 6\); wanted is \(6,\)"),
        ({"regions": []}, "regions has shape"),
        ({"regions": lambda x: [0, 1]}, r"regions has shape \(2,\)"),
        ({"regions": "nowhere.to.be.found"}, "regions='nowhere.to.be.found' cannot be imported"),
        ({"regions": [[0] * 6, [0, 1] * 3], "step_is": "region", "steps": 2},
         'steps=2 is more than the 1 regions of the shortest of these series: .* step_is="share"'),
        ({"regions": [0] * 6, "steps": 2}, r"steps=2 is more than the 1 regions of your own \(1 e"),
        ({"step_is": "half", "region_size": 2}, "step_is='half' is unknown: choose one of region,"),
        ({"region_relevance": "max", "region_size": 2}, "region_relevance='max' is unknown: choos"),
        ({"replacement": "blur", "region_size": 2}, "is for images and volumes; these are ser"),
        ({"data_range": None, "region_size": 2}, "data_range is missing"),
        ({"execution": Execution(channels_last=True), "region_size": 2}, "channels_last=True is"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(changes: dict[str, Any], message: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 2))
    settings = {"steps": 1, "data_range": (0.0, 1.0)} | changes
    with pytest.raises(ValueError, match=message):
        area_over_perturbation_curve(model, SERIES, SERIES[:, 0], **settings)


class Words(nn.Module):
    """Looks up vectors of ids."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors, self.head = nn.Embedding(5, 3), nn.Linear(3, 2)

    def forward(self, ids: Tensor) -> Tensor:
        scores: Tensor = self.head(self.vectors(ids).mean(dim=1))
        return scores


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        (nn.Linear(8, 2), torch.zeros(3, 8).long(), "Whole numbers are taken for the ids of tok"),
        (Words(), torch.zeros(3, 8), "It seems to look up ids, which these floating-point numbers"),
    ],
)
def test_ids_given_as_numbers_and_numbers_as_ids(
    model: nn.Module, given: Tensor, message: str
) -> None:
    data_range = (0.0, 1.0) if given.is_floating_point() else None
    with pytest.raises(ForwardError, match=message):
        area_over_perturbation_curve(
            model, given, torch.zeros(3, 8), steps=2, data_range=data_range
        )


def test_a_table_of_whole_numbers_is_no_text() -> None:
    table = torch.zeros(3, 8).long()
    with pytest.raises(ValueError, match=r"data_range=.*give a table as floating-point numbers"):
        area_over_perturbation_curve(
            nn.Linear(8, 2), table, torch.zeros(3, 8), steps=2, data_range=(0.0, 1.0)
        )


def test_regions_of_another_type_are_told() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 2))
    with pytest.raises(TypeError, match=r"regions holds torch\.float32; wanted are whole numbers"):
        area_over_perturbation_curve(
            model, SERIES, SERIES[:, 0], steps=1, data_range=(0.0, 1.0), regions=torch.rand(6)
        )


@pytest.mark.parametrize(("replacement", "message"), [
    ("mean", "is for images, series and volumes; these are tables: choose one of uniform"),
    ("linear", "is for series; these are tables"),
])  # fmt: skip
def test_each_feature_of_a_table_is_a_region(replacement: str, message: str) -> None:
    model, rows = nn.Linear(4, 2), torch.rand(3, 4)
    settings: dict[str, Any] = {"steps": 4, "data_range": ([0.0] * 4, [1.0, 2.0, 3.0, 4.0])}
    assert area_over_perturbation_curve(model, rows, rows, **settings).curves.shape == (3, 5)
    with pytest.raises(ValueError, match="each feature of a table is a region of its own"):
        area_over_perturbation_curve(model, rows, rows, region_size=2, **settings)
    with pytest.raises(ValueError, match=r"numbers for tables of 4 features: .* one per f"):
        area_over_perturbation_curve(model, rows, rows, steps=4, data_range=([0.0] * 3, 1.0))
    with pytest.raises(ValueError, match=message):
        area_over_perturbation_curve(model, rows, rows, replacement=replacement, **settings)


@pytest.mark.parametrize("replacement", ["blur", "mean", Constant(0.0)])
def test_no_data_range_where_none_is_looked_at(replacement: Any) -> None:
    images = inputs_of("images")
    settings: dict[str, Any] = {"region_size": 2, "steps": 4, "replacement": replacement}
    model, heatmaps = network(images), heatmaps_of(images)
    without, given = (
        area_over_perturbation_curve(model, images, heatmaps, data_range=data_range, **settings)
        for data_range in (None, RANGE)
    )
    assert torch.equal(without.curves, given.curves)
