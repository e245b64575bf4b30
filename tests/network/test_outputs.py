"""Which tensor of a network's answer is explained."""

from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from aopc_monitor import AOPC
from aopc_monitor.network.outputs import OutputError, chosen_output, class_outputs

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 5.0]])
EMBEDDING = torch.zeros(2, 8)
Answer = namedtuple("Answer", ["features", "logits"])


@pytest.mark.parametrize(
    "answer",
    [
        LOGITS,
        SimpleNamespace(logits=LOGITS),
        SimpleNamespace(features=EMBEDDING, preds=LOGITS),
        {"embedding": EMBEDDING, "logits": LOGITS},
        {"embedding": EMBEDDING, "out": LOGITS, "aux": LOGITS + 1},
        {"scores": EMBEDDING, "logits": LOGITS},  # the likelier name
        {"preds": torch.zeros(()), "features": LOGITS},  # a usual name of something else
        Answer(EMBEDDING, LOGITS),
        (LOGITS, EMBEDDING),
        [torch.zeros(2, 5, 4, 4), LOGITS],
        {"loss": torch.tensor(1.0), "a": LOGITS},
        (torch.zeros(2), LOGITS),  # one number for each image is less than a row of classes
        ({"logits": LOGITS}, EMBEDDING),  # the answer in a pair with something else
        {"head": {"features": EMBEDDING, "scores": LOGITS}, "embedding": EMBEDDING},
        {"output": LOGITS, "inner": {"logits": EMBEDDING}},  # the answer's own names win
    ],
)
def test_what_is_explained(answer: Any) -> None:
    assert class_outputs(answer, 2) is LOGITS


@pytest.mark.parametrize(
    "answer", [torch.tensor([1.0, -2.0]), {"logits": torch.tensor([1.0, -2.0]), "e": EMBEDDING}]
)
def test_one_number_for_each_image_is_a_column(answer: Any) -> None:
    assert class_outputs(answer, 2).tolist() == [[1.0], [-2.0]]


@pytest.mark.parametrize(
    ("answer", "told", "by_name"),
    [
        (LOGITS, "", False),
        ((EMBEDDING, LOGITS), "answer[0] of 8 columns is explained, not answer[1] of 3", False),
        (
            {"embedding": EMBEDDING, "logits": LOGITS},
            "answer['logits'] of 3 columns is explained, not answer['embedding'] of 8",
            True,
        ),
        (
            {"scores": LOGITS, "output": EMBEDDING},  # two usual names, and which is meant?
            "answer['output'] of 8 columns is explained, not answer['scores'] of 3",
            False,
        ),
        (
            {"scores": EMBEDDING, "logits": LOGITS},
            "answer['logits'] of 3 columns is explained, not answer['scores'] of 8",
            True,
        ),
        (
            ({"logits": LOGITS}, EMBEDDING),
            "answer[0]['logits'] of 3 columns is explained, not answer[1] of 8",
            True,
        ),
        (Answer(EMBEDDING, LOGITS), "answer.logits of 3 columns is explained, not answer.features"
         " of 8", True),
    ],
)  # fmt: skip
def test_the_choice_is_told(answer: Any, told: str, by_name: bool) -> None:
    chosen = chosen_output(answer, 2)
    assert chosen.told() == told
    assert chosen.by_name is by_name


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (torch.zeros(2, 3, 4), r"returned a tensor of shape \(2, 3, 4\) for 2 images"),
        (torch.zeros(()), r"shape \(\)"),
        (torch.zeros(5, 3), r"shape \(5, 3\) for 2 images"),
        ((LOGITS[None], LOGITS[0]), r"returned tensors of shape \(1, 2, 3\), \(3,\)"),
        ("logits", "returned a str.*Give output_fn="),
        (torch.zeros(2, 3, dtype=torch.long), "torch.int64"),
    ],
)
def test_other_answers_are_named(outputs: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        class_outputs(outputs, 2)


def test_an_output_fn_that_raises_is_named_and_not_the_forward() -> None:
    class Network(nn.Module):
        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"features": images.flatten(1), "cls": images.flatten(1)[:, :3]}

    metric = AOPC(
        region_size=2, steps=2, data_range=(0.0, 1.0), output_fn=lambda answer: answer["clss"]
    )
    message = r"output_fn raised KeyError: 'clss' .* a dict with the keys \['features', 'cls'\]"
    with pytest.raises(OutputError, match=message):
        metric.update(Network(), torch.rand(2, 3, 4, 4))
