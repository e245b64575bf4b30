from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from recipes.shared.training.label_free import (
    average_thresholded_confidence,
    confidence,
    negative_entropy,
)

logits = st.lists(
    st.lists(st.floats(-20, 20, width=32), min_size=3, max_size=3), min_size=1, max_size=20
)
# Whole numbers, so that scores are often tied.
scored = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=40)


def split(pairs: list[tuple[int, bool]]) -> tuple[Tensor, Tensor]:
    scores, correct = zip(*pairs, strict=True)
    return torch.tensor(scores).float(), torch.tensor(correct)


@given(logits)
def test_ranges_and_order_of_classes(rows: list[list[float]]) -> None:
    probabilities = torch.tensor(rows).softmax(dim=1)
    shuffled = probabilities[:, [2, 0, 1]]
    for score, low, high in ((confidence, 1 / 3, 1.0), (negative_entropy, -math.log(3), 0.0)):
        values = score(probabilities)
        assert values.shape == (len(rows),)
        assert float(values.min()) >= low - 1e-6
        assert float(values.max()) <= high + 1e-6
        assert values.tolist() == pytest.approx(score(shuffled).tolist(), abs=1e-6)


def test_negative_entropy_is_that_of_torch() -> None:
    probabilities = torch.rand(50, 7).softmax(dim=1)
    expected = -torch.distributions.Categorical(probabilities).entropy()
    assert negative_entropy(probabilities).tolist() == pytest.approx(expected.tolist(), abs=1e-6)


@given(scored)
def test_on_the_source_itself_the_guess_is_the_accuracy_unless_tied(
    pairs: list[tuple[int, bool]],
) -> None:
    scores, correct = split(pairs)
    untied = scores + torch.arange(len(scores)) / 1000
    accuracy = float(correct.double().mean())
    assert average_thresholded_confidence(untied, correct, untied) == pytest.approx(accuracy)
    assert average_thresholded_confidence(scores, correct, scores) >= accuracy - 1e-9


@given(scored, scored)
def test_no_monotone_map_of_the_score_and_no_order_of_images_matters(
    source: list[tuple[int, bool]], target: list[tuple[int, bool]]
) -> None:
    (scores, correct), (others, _) = split(source), split(target)
    guess = average_thresholded_confidence(scores, correct, others)
    assert 0 <= guess <= 1
    assert average_thresholded_confidence(3 * scores - 7, correct, 3 * others - 7) == guess
    assert average_thresholded_confidence(scores.flip(0), correct.flip(0), others.flip(0)) == guess


@given(scored, scored)
def test_more_certain_images_are_never_guessed_worse(
    source: list[tuple[int, bool]], target: list[tuple[int, bool]]
) -> None:
    (scores, correct), (others, _) = split(source), split(target)
    guess = average_thresholded_confidence(scores, correct, others)
    assert average_thresholded_confidence(scores, correct, others + 1) >= guess


def test_a_source_without_a_correct_image_guesses_zero() -> None:
    scores, wrong = torch.tensor([0.1, 0.2]), torch.tensor([False, False])
    assert average_thresholded_confidence(scores, wrong, torch.tensor([9.0])) == 0.0


def test_bad_input_is_named() -> None:
    two = torch.tensor([0.1, 0.2])
    with pytest.raises(ValueError, match=r"source_correct has shape \(3,\)"):
        average_thresholded_confidence(two, torch.ones(3), two)
    with pytest.raises(ValueError, match="target_scores is empty"):
        average_thresholded_confidence(two, torch.ones(2), torch.zeros(0))
