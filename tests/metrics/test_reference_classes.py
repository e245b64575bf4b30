"""Tables of counts: small, summable, and with the kappa of the table of all classes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aopc_monitor.metrics import cohen_kappa, cohen_kappa_standard_error
from aopc_monitor.metrics.functional.agreement import (
    kappa_of_table,
    kappa_standard_error_of_table,
)
from aopc_monitor.metrics.reference_classes import ReferenceClasses

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=40)


@settings(deadline=None)
@given(PAIRS, st.integers(1, 39))
def test_tables_of_parts_have_the_kappa_of_all_classes(
    pairs: list[tuple[int, int]], cut: int
) -> None:
    predicted, classes = torch.tensor(pairs).T
    whole = ReferenceClasses.of(classes)
    rows = [r for r in (range(cut), range(cut, len(pairs))) if len(r) and max(r) < len(pairs)]
    if len(rows) < 2:
        rows = [range(len(pairs))]
    table = sum(whole.part(r).table(predicted[list(r)], 7) for r in rows)
    assert isinstance(table, torch.Tensor)
    assert table.sum() == len(pairs)
    for found, expected in (
        (kappa_of_table(table), cohen_kappa(predicted, classes)),
        (kappa_standard_error_of_table(table), cohen_kappa_standard_error(predicted, classes)),
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12, equal_nan=True)


def test_tables_stay_small_where_there_are_many_classes() -> None:
    reference = ReferenceClasses.of(torch.tensor([7, 900_000, 7]), num_classes=1_000_000)
    assert reference.table(torch.tensor([3, 900_000, 999_999]), 1_000_000).shape == (3, 3)


def test_fingerprints_tell_predictions_apart() -> None:
    first, same, other = ([2, 1, 1], [2, 1, 1], [1, 2, 1])
    prints = [ReferenceClasses.of(torch.tensor(c)).fingerprint for c in (first, same, other)]
    assert prints[0] == prints[1] != prints[2]


def test_other_classes_are_refused() -> None:
    classes = torch.tensor([0, 5])
    with pytest.raises(ValueError, match="reference= has 8 classes, and the network 6"):
        ReferenceClasses.of(classes, 8).table(classes, 6)
    with pytest.raises(ValueError, match="predicts class 5, and the network has 4 classes"):
        ReferenceClasses.of(classes).table(torch.tensor([0, 1]), 4)
