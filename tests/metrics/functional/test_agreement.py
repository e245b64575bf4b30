from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from aopc_monitor.metrics import (
    cohen_kappa,
    cohen_kappa_standard_error,
    contingency,
    disagreement,
    mutual_information,
)

METRICS = [cohen_kappa, cohen_kappa_standard_error, mutual_information, disagreement]
# Few classes and few images, so that all of a kind, and none of another, often occur.
pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


def split(drawn: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    a, b = zip(*drawn, strict=True)
    return torch.tensor(a), torch.tensor(b)


def some(seed: int, count: int = 200, classes: int = 7) -> tuple[Tensor, Tensor]:
    """Two predictions that agree somewhat."""
    source = torch.Generator().manual_seed(seed)
    a, other = torch.randint(classes, (2, count), generator=source)
    return a, torch.where(torch.rand(count, generator=source) < 0.5, a, other)


def equal(one: Tensor, other: Any) -> bool:
    return float(one) == pytest.approx(float(other), abs=1e-10, nan_ok=True)


def kappa_slowly(a: list[int], b: list[int]) -> float:
    """As it is defined, with the chance of each class by itself."""
    count = len(a)
    observed = sum(x == y for x, y in zip(a, b, strict=True)) / count
    chance = sum(a.count(c) / count * (b.count(c) / count) for c in range(max(a + b) + 1))
    return (observed - chance) / (1 - chance) if chance < 1 else math.nan


def standard_error_slowly(a: list[int], b: list[int]) -> float:
    """By the three sums in which Fleiss, Cohen and Everitt print it."""
    count, kappa, classes = len(a), kappa_slowly(a, b), range(max(a + b) + 1)
    rows, columns = ([x.count(c) / count for c in classes] for x in (a, b))
    chance = sum(r * c for r, c in zip(rows, columns, strict=True))
    agreed = disagreed = 0.0
    for i in classes:
        for j in classes:
            share = sum((x, y) == (i, j) for x, y in zip(a, b, strict=True)) / count
            if i == j:
                agreed += share * (1 - (rows[i] + columns[i]) * (1 - kappa)) ** 2
            else:
                disagreed += share * (columns[i] + rows[j]) ** 2
    squares = agreed + (1 - kappa) ** 2 * disagreed - (kappa - chance * (1 - kappa)) ** 2
    return math.sqrt(max(squares, 0.0) / count) / (1 - chance) if chance < 1 else math.nan


def information_slowly(a: list[int], b: list[int]) -> float:
    count, total = len(a), 0.0
    for i, j in set(zip(a, b, strict=True)):
        share = sum((x, y) == (i, j) for x, y in zip(a, b, strict=True)) / count
        total += share * math.log(share * count * count / (a.count(i) * b.count(j)))
    return total


@given(pairs)
def test_values_are_those_of_slow_loops(drawn: list[tuple[int, int]]) -> None:
    a, b = split(drawn)
    lists = a.tolist(), b.tolist()
    assert equal(cohen_kappa(a, b), kappa_slowly(*lists))
    # Near full agreement the three sums cancel, and the root makes 1e-8 of a 1e-16.
    slow = standard_error_slowly(*lists)
    found = cohen_kappa_standard_error(a, b)
    assert equal(found.square(), slow**2)
    assert equal(mutual_information(a, b), information_slowly(*lists))
    assert equal(disagreement(a, b), sum(x != y for x, y in drawn) / len(drawn))


@settings(max_examples=30, deadline=None)  # the other library takes its time
@given(pairs)
def test_values_are_those_of_scikit_learn(drawn: list[tuple[int, int]]) -> None:
    scores = pytest.importorskip("sklearn.metrics")
    a, b = split(drawn)
    assert mutual_information(a, b) == pytest.approx(scores.mutual_info_score(a, b), abs=1e-10)
    if len({*a.tolist(), *b.tolist()}) > 1:
        assert cohen_kappa(a, b) == pytest.approx(scores.cohen_kappa_score(a, b), abs=1e-10)
        table = scores.confusion_matrix(a, b, labels=range(5))
        assert contingency(a, b, 5).tolist() == table.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_the_error_is_that_of_the_delta_method(seed: int) -> None:
    """With the derivatives of the definition, which autograd takes."""
    a, b = some(seed)
    share = (contingency(a, b) / len(a)).requires_grad_()
    chance = (share.sum(dim=0) * share.sum(dim=1)).sum()
    kappa = (share.diagonal().sum() - chance) / (1 - chance)
    (slope,) = torch.autograd.grad(kappa, share)
    variance = (share * slope**2).sum() - (share * slope).sum() ** 2
    assert equal(cohen_kappa_standard_error(a, b), (variance.detach() / len(a)).sqrt())


def test_the_error_is_the_spread_over_drawn_images() -> None:
    source = torch.Generator().manual_seed(0)
    a, b = some(1, count=400)
    drawn = [torch.randint(400, (400,), generator=source) for _ in range(800)]
    spread = torch.stack([cohen_kappa(a[rows], b[rows]) for rows in drawn]).std()
    assert float(cohen_kappa_standard_error(a, b)) == pytest.approx(float(spread), rel=0.1)


@given(pairs)
def test_bounds(drawn: list[tuple[int, int]]) -> None:
    a, b = split(drawn)
    kappa, information = float(cohen_kappa(a, b)), float(mutual_information(a, b))
    # Kappa has its least value, -1, where two classes are always taken for each other.
    assert math.isnan(kappa) or -1 - 1e-12 <= kappa <= 1
    assert math.isnan(kappa) == (len({*a.tolist(), *b.tolist()}) == 1)
    assert 0 <= information <= min(float(mutual_information(x, x)) for x in (a, b)) + 1e-12
    assert information <= math.log(5) + 1e-12
    assert float(cohen_kappa_standard_error(a, b)) >= 0 or math.isnan(kappa)
    assert 0 <= float(disagreement(a, b)) <= 1


@given(pairs, st.permutations(range(5)), st.randoms(use_true_random=False))
def test_neither_names_of_classes_nor_the_order_of_images_nor_of_sides_matters(
    drawn: list[tuple[int, int]], names: list[int], source: Any
) -> None:
    a, b = split(drawn)
    renamed = torch.tensor(names) * 1000
    rows = torch.tensor(source.sample(range(len(a)), len(a)))
    for metric in METRICS:
        value = metric(a, b)
        assert equal(metric(b, a), value)
        assert equal(metric(renamed[a], renamed[b]), value)
        assert equal(metric(a[rows], b[rows]), value)
    assert equal(mutual_information(renamed[a], b), mutual_information(a, b))


@given(pairs)
def test_images_counted_twice_change_nothing_but_the_error(drawn: list[tuple[int, int]]) -> None:
    once, twice = split(drawn), split(drawn * 2)
    for metric in (cohen_kappa, mutual_information, disagreement):
        assert equal(metric(*twice), metric(*once))
    error, halved = (cohen_kappa_standard_error(*given) for given in (once, twice))
    assert equal(halved**2 * 2, error**2)


@given(pairs, pairs)
def test_tables_add_up(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    table = contingency(*split(one), 5) + contingency(*split(other), 5)
    assert torch.equal(table, contingency(*split(one + other), 5))
    assert int(table.sum()) == len(one) + len(other)
    a, b = split(one + other)
    assert torch.equal(table.T, contingency(b, a, 5))


def test_closed_forms() -> None:
    a = torch.arange(6).repeat(50)
    assert float(cohen_kappa(a, a)) == 1
    assert float(cohen_kappa_standard_error(a, a)) == pytest.approx(0, abs=1e-12)
    assert float(mutual_information(a, a)) == pytest.approx(math.log(6))
    constant = torch.zeros_like(a)
    assert float(cohen_kappa(a, constant)) == float(mutual_information(a, constant)) == 0
    # Two classes, always taken for each other.
    assert float(cohen_kappa(a % 2, 1 - a % 2)) == -1
    # Of K classes alike in number, a share s right and the rest a class further.
    further = torch.where(torch.arange(300) < 120, a, (a + 1) % 6)
    assert float(cohen_kappa(a, further)) == pytest.approx((120 / 300 - 1 / 6) / (1 - 1 / 6))


def test_predictions_in_another_order_agree_by_chance_only() -> None:
    """On average over all orders: exactly for the share, and so for kappa."""
    source = torch.Generator().manual_seed(0)
    a, b = some(2, count=2000, classes=3)
    values = [cohen_kappa(a, b[torch.randperm(2000, generator=source)]) for _ in range(200)]
    drawn = torch.stack(values)
    assert abs(float(drawn.mean())) < 4 * float(drawn.std()) / 200**0.5
    assert float(drawn.abs().max()) < 0.1 < float(cohen_kappa(a, b))


def test_information_of_unrelated_predictions_is_as_high_as_is_said() -> None:
    source = torch.Generator().manual_seed(0)
    values = [
        mutual_information(*torch.randint(5, (2, 1000), generator=source)) for _ in range(200)
    ]
    assert float(torch.stack(values).mean()) == pytest.approx(16 / 2000, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_any_whole_numbers_will_do(dtype: torch.dtype) -> None:
    a, b = some(3, classes=250)
    assert equal(cohen_kappa(a.to(dtype), b), cohen_kappa(a, b))
    assert int(contingency(a.to(dtype), b.to(dtype), 250).trace()) == int((a == b).sum())


@pytest.mark.parametrize("metric", [contingency, *METRICS])
def test_bad_classes_are_named(metric: Any) -> None:
    a = torch.tensor([0, 1, 1])
    with pytest.raises(TypeError, match=r"a is torch.float32, of shape \(3, 4\).*argmax"):
        metric(torch.rand(3, 4), a)
    with pytest.raises(TypeError, match=r"b is torch.bool"):
        metric(a, a > 0)
    with pytest.raises(TypeError, match="b is a list"):
        metric(a, [0, 1, 1])
    with pytest.raises(ValueError, match=r"b has shape \(3, 8, 8\).*masks"):
        metric(a, torch.zeros(3, 8, 8, dtype=torch.long))
    with pytest.raises(ValueError, match="b has 2 classes, and a 3"):
        metric(a, a[:2])
    with pytest.raises(ValueError, match=r"a has shape \(0,\)"):
        metric(a[:0], a[:0])
    with pytest.raises(ValueError, match="b holds classes from -1 to 1"):
        metric(a, torch.tensor([-1, 0, 1]))


@pytest.mark.parametrize("metric", [contingency, cohen_kappa, cohen_kappa_standard_error])
def test_a_class_too_many_is_named(metric: Any) -> None:
    a, b = torch.tensor([0, 1]), torch.tensor([0, 3])
    assert metric(a, b, 4).dtype == torch.float64
    with pytest.raises(ValueError, match=r"b holds classes from 0 to 3; .* there are 3"):
        metric(a, b, 3)
    with pytest.raises(ValueError, match="num_classes=0"):
        metric(a, b, 0)
