from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from aopc_monitor.network.scores import are_probabilities, class_outputs, score_function

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
    with pytest.raises(ValueError, match="one number per image, whose softmax is always"):
        score_function("probability", torch.zeros(4, 1))


def test_logits_attribute_is_found() -> None:
    assert class_outputs(SimpleNamespace(logits=LOGITS), 2) is LOGITS


@pytest.mark.parametrize(
    "outputs",
    [
        (LOGITS, LOGITS + 1),
        [torch.zeros(2, 5, 4, 4), LOGITS],
        {"loss": torch.tensor(1.0), "a": LOGITS},
    ],
)
def test_first_tensor_of_the_right_shape_among_several_is_found(outputs: Any) -> None:
    assert class_outputs(outputs, 2) is LOGITS


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (torch.zeros(2, 3, 4), r"returned a tensor of shape \(2, 3, 4\) for 2 images"),
        (torch.zeros(2), r"shape \(2,\)"),
        (torch.zeros(5, 3), r"shape \(5, 3\) for 2 images"),
        ((LOGITS[None], LOGITS[0]), r"returned tensors of shape \(1, 2, 3\), \(3,\)"),
        ("logits", "returned a str"),
        (torch.zeros(2, 3, dtype=torch.long), "torch.int64"),
    ],
)
def test_other_answers_are_named(outputs: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        class_outputs(outputs, 2)
