from __future__ import annotations

from typing import Any

import pytest
import torch

from aopc_monitor.network.scores import SCORES, are_probabilities, check_score, score_function

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 5.0]])
TARGET = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        ("probability", LOGITS.softmax(1)),
        ("logit", LOGITS),
        ("log_probability", LOGITS.log_softmax(1)),
    ],
)
def test_named_scores(score: Any, expected: torch.Tensor) -> None:
    values = score_function(score, LOGITS)(LOGITS, TARGET)
    torch.testing.assert_close(values.float(), expected[[0, 1], TARGET])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_probabilities_are_recognised_and_not_softmaxed_again(
    dtype: torch.dtype, classes: int
) -> None:
    logits = torch.randn(8, classes, generator=torch.Generator().manual_seed(0), dtype=dtype)
    probabilities = logits.softmax(dim=1)
    assert are_probabilities(probabilities)
    assert not are_probabilities(logits)
    target = logits.argmax(1)
    values = score_function("probability", probabilities)(probabilities, target)
    torch.testing.assert_close(values, probabilities.double().max(dim=1).values)
    logs = score_function("log_probability", probabilities)(probabilities, target)
    torch.testing.assert_close(logs, values.log())


def test_probabilities_of_half_precision_are_recognised_in_float_too() -> None:
    logits = torch.randn(8, 100, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.bfloat16, torch.float16):
        assert are_probabilities(logits.to(dtype).softmax(dim=1).float())


def test_log_probabilities_are_logits_as_any() -> None:
    outputs = LOGITS.log_softmax(1)
    values = score_function("probability", outputs)(outputs, TARGET)
    torch.testing.assert_close(values.float(), LOGITS.softmax(1)[[0, 1], TARGET])


def test_scores_that_would_mean_something_else_are_refused() -> None:
    with pytest.raises(ValueError, match="the model returns probabilities already"):
        score_function("logit", LOGITS.softmax(1))
    with pytest.raises(ValueError, match=r'softmax is always 1.*"sigmoid".*"value"'):
        score_function("probability", torch.zeros(4, 1))


def test_independent_labels_are_scored_by_their_sigmoids() -> None:
    values = score_function("sigmoid", LOGITS)(LOGITS, TARGET)
    torch.testing.assert_close(values.float(), torch.tensor([2.0, 0.2]).sigmoid())
    probabilities = LOGITS.sigmoid()
    # A softmax of several columns that do not sum to 1, and no sigmoid of what is one already.
    same = score_function("sigmoid", probabilities)(probabilities, TARGET)
    torch.testing.assert_close(same, values)
    # Small logits may lie between 0 and 1, too: whoever knows says so.
    small = torch.full((2, 3), 0.5)
    assert score_function("sigmoid", small, False)(small, TARGET).tolist() == pytest.approx(
        [0.6224593] * 2
    )


def test_a_row_is_enough_for_a_score_to_have_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def least(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return outputs.amin(dim=1)

    monkeypatch.setitem(SCORES, "least", lambda answer: least)
    check_score("least")
    assert score_function("least", LOGITS)(LOGITS, TARGET).tolist() == pytest.approx([-1.0, 0.1])
    with pytest.raises(ValueError, match=r"choose one of probability, .*, least, or give"):
        check_score("most")
    with pytest.raises(ValueError, match=r"score=\[\] is unknown"):
        check_score([])
