"""Which classes of an image are explained, and what is found of an image that has several."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from aopc_monitor.network.targets import (
    Explanations,
    Predicted,
    check_target_choice,
    chosen_target,
)

OUTPUTS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 5.0]])
PREDICTED = Predicted(OUTPUTS.argmax(dim=1), OUTPUTS > 0.3)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (None, [0, 2]),
        ("predicted", [[True, False, True], [False, False, True]]),
        (torch.tensor([1, 0]), [1, 0]),
        (torch.tensor([1, 0], dtype=torch.uint8), [1, 0]),
        (torch.tensor([[1, 0, 0], [0, 1, 1]]), [[True, False, False], [False, True, True]]),
        (lambda outputs: outputs.argmin(dim=1), [1, 0]),
        (lambda outputs: outputs > 0.15, [[True, False, True], [False, True, True]]),
    ],
)
def test_ways_to_name_what_is_explained(target: Any, expected: list[Any]) -> None:
    assert chosen_target(target, OUTPUTS, PREDICTED).tolist() == expected


def test_where_nothing_is_predicted_the_likeliest_is_explained() -> None:
    predicted = Predicted(OUTPUTS.argmax(dim=1), OUTPUTS > 3)
    chosen = chosen_target("predicted", OUTPUTS, predicted)
    assert chosen.tolist() == [[True, False, False], [False, False, True]]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (torch.tensor([3, 0]), "holds classes from 0 to 3; the model has 3, counted from 0"),
        (torch.tensor([1, 0, 1]), r"target is \(3,\); wanted is a tensor of one class index"),
        (torch.tensor([[1], [0]]), r"target is \(2, 1\); wanted is a class for each image, \(2,\)"),
        (torch.tensor([[1, 2, 0], [0, 0, 0]]), "holds numbers from 0 to 2; wanted are truth"),
        (lambda outputs: outputs.logits, r"target= raised AttributeError.* of shape \(2, 3\)"),
        (lambda outputs: [1, 2], "target is list"),
    ],
)
def test_targets_that_do_not_fit(target: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        chosen_target(target, OUTPUTS, PREDICTED)


def test_settings_take_no_target_of_one_batch() -> None:
    for target in (None, "predicted", lambda outputs: outputs.argmin(dim=1)):
        check_target_choice(target)
    with pytest.raises(ValueError, match=r"target=\(2,\) is no way to choose targets of any batch"):
        check_target_choice(torch.tensor([1, 0]))
    with pytest.raises(ValueError, match="target='least' is no way"):
        check_target_choice("least")


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6))
def test_images_are_means_over_their_labels(rows: list[list[bool]]) -> None:
    explained = Explanations.of(torch.tensor(rows))
    values = torch.arange(len(explained.target) * 2, dtype=torch.float64).view(-1, 2)
    values[values == 4] = torch.nan  # a step that was not evaluated
    found = explained.over_images(values)
    start = 0
    for row, of_image in zip(rows, found, strict=True):
        own = values[start : start + sum(row)]
        start += sum(row)
        for column in range(2):
            known = [float(v) for v in own[:, column] if v == v]
            wanted = sum(known) / len(known) if known else float("nan")
            torch.testing.assert_close(
                of_image[column], torch.tensor(wanted, dtype=torch.float64), equal_nan=True
            )


def test_heatmaps_of_several_classes() -> None:
    labels = torch.tensor([[True, False, True], [False, False, False], [False, True, False]])
    explained, images = Explanations.of(labels), torch.zeros(3, 1, 2, 2)
    each = torch.arange(9.0).view(3, 3, 1, 1).expand(3, 3, 2, 2)
    shared: Tensor = torch.arange(3.0).view(3, 1, 1).expand(3, 2, 2)
    assert explained.heatmaps_of(each, images)[:, 0, 0].tolist() == [0.0, 2.0, 7.0]
    assert explained.heatmaps_of(shared, images)[:, 0, 0].tolist() == [0.0, 0.0, 2.0]
