"""The matrix is complete, and the page says what the tests do."""

from __future__ import annotations

from itertools import combinations

import pytest

from tests.integration.no_trace.cases import CASES, FACTORS, Case, is_possible, pairs_of, title
from tests.integration.no_trace.constraints import CONSTRAINTS
from tests.integration.no_trace.page import (
    MEANING,
    NOT_RUN,
    PAGE,
    Row,
    merged,
    render,
    rows_of,
    titles,
)


def possible(factors: list[str]) -> set[object]:
    """Written anew: every two values that are not both named by one constraint."""
    pairs = {
        ((a, one), (b, other))
        for a, b in combinations(factors, 2)
        for one in FACTORS[a]
        for other in FACTORS[b]
    }
    refused = {
        ((a, one), (b, other))
        for constraint in CONSTRAINTS
        if set(constraint.values) <= set(factors)
        for a, b in combinations(sorted(constraint.values, key=factors.index), 2)
        for one in constraint.values[a]
        for other in constraint.values[b]
    }
    return set(pairs - refused)


def test_every_possible_pair_is_in_a_case() -> None:
    found = set().union(*map(pairs_of, CASES))
    assert found == possible(list(FACTORS))


def test_cases_with_one_process_have_every_pair_of_the_other_factors() -> None:
    factors = [factor for factor in FACTORS if factor != "processes"]
    found = set().union(*(pairs_of(case) for case in CASES if case.processes == "1"))
    wanted = possible(factors)
    assert {pair for pair in wanted if "sync_batch_norm" not in str(pair)} <= found


def test_cases_that_need_gpus_are_needed_for_no_other_pair() -> None:
    found = set().union(*(pairs_of(c) for c in CASES if c.normalization != "sync_batch_norm"))
    missing = possible(list(FACTORS)) - found
    assert all("sync_batch_norm" in str(pair) for pair in missing)


def test_cases_are_few_different_and_possible() -> None:
    assert len(set(map(title, CASES))) == len(CASES) <= 40
    assert all(is_possible(case._asdict()) for case in CASES)
    assert list(Case._fields) == [*FACTORS, "kind", "reference"]
    assert list(FACTORS) == list(MEANING)


def test_constraints_are_about_two_factors_and_give_a_reason() -> None:
    for constraint in CONSTRAINTS:
        assert len(constraint.values) == 2
        assert all(set(values) <= set(FACTORS[f]) for f, values in constraint.values.items())
        assert len(constraint.reason) > 20


def test_page_is_what_the_tests_would_write_and_lists_every_case() -> None:
    text = PAGE.read_text()
    rows = rows_of(text)
    assert list(rows) == titles()
    assert text == render(rows), "run these tests with AOPC_WRITE_DOCS=1"


def test_page_has_a_result_for_every_case() -> None:
    rows = rows_of(PAGE.read_text())
    unsettled = f"{NOT_RUN}not yet"
    for name, row in rows.items():
        assert row.result != unsettled, name
        assert row.result == "identical" or row.result.startswith(NOT_RUN), name


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ("identical", f"{NOT_RUN}needs a GPU", "identical"),
        (f"{NOT_RUN}needs a GPU", "identical", "identical"),
        ("identical", "NOT identical", "NOT identical"),
        ("NOT identical", f"{NOT_RUN}needs a GPU", "NOT identical"),
        (f"{NOT_RUN}not yet", f"{NOT_RUN}needs a GPU", f"{NOT_RUN}needs a GPU"),
    ],
)
def test_a_partial_run_keeps_what_it_cannot_run(old: str, new: str, kept: str) -> None:
    before = {"a": Row(old, "1", "1"), "b": Row("identical", "1", "1")}
    after = merged(before, {"a": Row(new, "2", "2")})
    assert after["a"].result == kept
    assert after["b"] == before["b"]
