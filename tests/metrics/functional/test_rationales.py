"""Comprehensiveness and sufficiency against a plain loop."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aopc_monitor.metrics import comprehensiveness, sufficiency
from aopc_monitor.metrics.functional.rationales import SHARES, counts_of
from aopc_monitor.perturbation import Mean
from tests.metrics.functional.removals import Case
from tests.metrics.functional.test_kinds import SHAPES
from tests.texts import classifier, texts


@pytest.mark.parametrize("shares", [SHARES, (0.34,), (0.2, 1.0)])
@pytest.mark.parametrize("kind", SHAPES)
def test_drops_are_those_of_a_plain_loop(kind: str, shares: tuple[float, ...]) -> None:
    case = Case(kind)
    counts = [ceil(Fraction(str(share)) * case.regions) for share in shares]
    expected = case.by_loop(
        lambda score, order, _: sum(score([]) - score(order[:k]) for k in counts) / len(counts)
    )
    given: dict[str, Any] = {"shares": shares, "region_size": case.region_size}
    found = comprehensiveness(case.model, case.inputs, case.heatmaps, **given)
    torch.testing.assert_close(found.per_image, expected, rtol=0, atol=1e-9)
    expected = case.by_loop(
        lambda score, order, _: sum(score([]) - score(order[k:]) for k in counts) / len(counts)
    )
    found = sufficiency(case.model, case.inputs, case.heatmaps, **given)
    torch.testing.assert_close(found.per_image, expected, rtol=0, atol=1e-9)
    assert found.scores.shape == (len(case.inputs), len(shares))


def test_another_replacement_is_that_of_the_loop() -> None:
    case = Case("images", replaced=lambda x: x.mean(dim=(2, 3), keepdim=True).expand_as(x))
    found = comprehensiveness(
        case.model, case.inputs, case.heatmaps, shares=0.5, region_size=case.region_size,
        replacement="mean",
    )  # fmt: skip
    half = -(-case.regions // 2)
    expected = case.by_loop(lambda score, order, _: score([]) - score(order[:half]))
    torch.testing.assert_close(found.per_image, expected, rtol=0, atol=1e-9)
    table = Case("tables")
    with pytest.raises(ValueError, match=r"replacement=.*these are tables"):
        comprehensiveness(table.model, table.inputs, table.heatmaps, replacement=Mean())


@pytest.mark.parametrize("name", ["CNN", "LSTM"])
@torch.no_grad()
def test_words_of_texts_of_different_lengths(name: str) -> None:
    """As the benchmark has it: a share of the words of each text."""
    model, batch = classifier(name), texts((9, 6, 4))
    relevance = torch.rand(3, 9, generator=torch.Generator().manual_seed(1))
    found = comprehensiveness(model, batch, relevance, shares=(0.1, 0.5))
    for n, words in enumerate(batch["word_ids"]):
        numbers = sorted({word for word in words if word is not None})
        of_words = {
            number: float(relevance[n][[word == number for word in words]].double().mean())
            for number in numbers
        }
        ranked = sorted(numbers, key=lambda number: -of_words[number])
        ids, mask = batch["input_ids"][n : n + 1], batch["attention_mask"][n : n + 1]
        target = int(model(ids, mask).argmax())
        clean = float(model(ids, mask).softmax(1)[0, target])
        drops = []
        for share in (0.1, 0.5):
            vectors = model.table(ids).clone()
            gone = ranked[: ceil(share * len(numbers))]
            vectors[0, [t for t, word in enumerate(words) if word in gone]] = 0
            without = model.of_vectors(vectors, mask).softmax(1)[0, target]
            drops.append(clean - float(without))
        assert float(found.per_image[n]) == pytest.approx(sum(drops) / 2, abs=1e-6)


@given(st.integers(1, 100), st.integers(1, 400))
@settings(max_examples=100, deadline=None)
def test_shares_are_rounded_up_and_by_no_rounding_error(percent: int, regions: int) -> None:
    counts = counts_of([percent / 100], torch.tensor([regions]))
    assert counts.tolist() == [[ceil(Fraction(percent, 100) * regions)]]


@pytest.mark.parametrize("shares", [(), (0.0,), 1.5, (0.1, float("nan")), "half"])
def test_shares_that_there_cannot_be_are_told(shares: Any) -> None:
    case = Case("tables")
    with pytest.raises(ValueError, match=r"shares=.*above 0 and up to 1"):
        comprehensiveness(case.model, case.inputs, case.heatmaps, shares=shares)
