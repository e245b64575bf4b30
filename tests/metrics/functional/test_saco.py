"""SaCo against the algorithm as the paper has it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aopc_monitor.metrics import RemovalResult, saco
from aopc_monitor.perturbation import Constant
from tests.metrics.functional.removals import Case, Score
from tests.metrics.functional.test_kinds import SHAPES


def coefficient(effects: list[float], salience: list[float]) -> float:
    signed = whole = 0.0
    for i in range(len(effects)):
        for j in range(i + 1, len(effects)):
            weight = salience[i] - salience[j]
            signed += weight if effects[i] >= effects[j] else -weight
            whole += abs(weight)
    return signed / whole


def mean_colour(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(2).mean(dim=2).view(*x.shape[:2], *[1] * (x.ndim - 2)).expand_as(x)


def found(case: Case, groups: int, **changes: Any) -> RemovalResult:
    arguments = {"groups": groups, "region_size": case.region_size, **changes}
    if case.region_size is None:  # the features of a table have no mean
        arguments["replacement"] = Constant(0.0)
    return saco(case.model, case.inputs, arguments.pop("heatmaps", case.heatmaps), **arguments)


@pytest.mark.parametrize("groups", [2, 4, 5])
@pytest.mark.parametrize("kind", [kind for kind in SHAPES if kind != "tables"])
def test_coefficients_are_those_of_the_algorithm(kind: str, groups: int) -> None:
    case = Case(kind, replaced=mean_colour)
    edges = [k * case.regions // groups for k in range(groups + 1)]

    def value(score: Score, order: list[int], n: int) -> float:
        parts = [order[a:b] for a, b in pairwise(edges)]
        relevance = case.relevance(n)
        effects = [score([]) - score(part) for part in parts]
        return coefficient(effects, [sum(relevance[r] for r in p) / len(p) for p in parts])

    expected = case.by_loop(value)
    torch.testing.assert_close(found(case, groups).per_image, expected, rtol=0, atol=1e-9)


def test_sums_over_groups_of_one_size_are_as_good_as_means() -> None:
    """The paper has sums over pixels, of which all groups have as many."""
    case = Case("tables")
    assert case.regions == 9

    def value(score: Score, order: list[int], n: int) -> float:
        parts = [order[k : k + 3] for k in (0, 3, 6)]
        relevance = case.relevance(n)
        effects = [score([]) - score(part) for part in parts]
        return coefficient(effects, [sum(relevance[r] for r in p) for p in parts])

    result = found(case, 3)
    torch.testing.assert_close(result.per_image, case.by_loop(value), rtol=0, atol=1e-9)


@given(st.floats(0.1, 100), st.floats(-10, 10))
@settings(max_examples=10, deadline=None)
def test_neither_unit_nor_zero_of_the_relevance_counts(unit: float, zero: float) -> None:
    case = Case("tables")
    plain, other = found(case, 3), found(case, 3, heatmaps=unit * case.heatmaps + zero)
    torch.testing.assert_close(plain.per_image, other.per_image, rtol=0, atol=1e-6)
    assert (plain.per_image.abs() <= 1).all()


@pytest.mark.parametrize("level", [0.0, 0.1, -3.7])
def test_a_constant_heatmap_tells_nothing(level: float) -> None:
    case = Case("images")
    result = found(case, 4, heatmaps=torch.full_like(case.heatmaps, level))
    assert result.per_image.tolist() == [0.0] * len(case.inputs)


@pytest.mark.parametrize(
    ("groups", "message"), [(1, "at least 2"), (10, "more than the 9 regions")]
)
def test_groups_that_there_cannot_be_are_told(groups: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"groups={groups}.*{message}"):
        found(Case("tables"), groups)
