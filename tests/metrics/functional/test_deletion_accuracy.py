"""Accuracy against deleted words, against a plain loop over documents and steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import heatmaps
from aopc_monitor.metrics import DeletionAccuracy, deletion_accuracy
from aopc_monitor.perturbation import Constant, MaskToken
from tests.texts import classifier, texts

STEPS = 2
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def decisions_by_loop(
    model: nn.Module, batch: dict[str, Any], relevance: Tensor, labels: Tensor, mask_id: int
) -> Tensor:
    """(N, L+1) decisions, with words made a mask token one after the other."""
    found = torch.zeros(len(labels), STEPS + 1, dtype=torch.float64)
    for n, words in enumerate(batch["word_ids"]):
        ids, mask = batch["input_ids"][n : n + 1].clone(), batch["attention_mask"][n : n + 1]
        is_right = bool(model(ids, mask).argmax() == labels[n])
        numbers = sorted({word for word in words if word is not None})
        of_words = [
            float(relevance[n][[word == number for word in words]].mean()) for number in numbers
        ]
        # Most relevant first where it is sorted rightly, least relevant first where it is not.
        ranked = sorted(numbers, key=lambda number: of_words[number] * (-1 if is_right else 1))
        found[n, 0] = is_right
        for k, number in enumerate(ranked[:STEPS], start=1):
            ids[0, [t for t, word in enumerate(words) if word == number]] = mask_id
            found[n, k] = bool(model(ids, mask).argmax() == labels[n])
    return found


@pytest.mark.parametrize("name", ["CNN", "LSTM"])
def test_decisions_are_those_of_a_plain_loop(name: str) -> None:
    model, batch = classifier(name), texts((9, 6, 4, 9, 8, 7))
    relevance = heatmaps.get("gradient_x_input")(model, batch, LABELS)
    found = deletion_accuracy(
        model, batch, relevance, LABELS, steps=STEPS, replacement=MaskToken(3)
    )
    expected = decisions_by_loop(model, batch, relevance, LABELS, mask_id=3)
    assert torch.equal(found.decided, expected)
    assert 0 < found.is_right.sum() < len(LABELS)
    assert torch.equal(found.of_right, expected[expected[:, 0] == 1].mean(dim=0))
    assert torch.equal(found.of_wrong, expected[expected[:, 0] == 0].mean(dim=0))
    at_first = [found.of_right, found.of_wrong, found.of_right_at_random, found.of_wrong_at_random]
    assert [float(curve[0]) for curve in at_first] == [1, 0, 1, 0]


def test_images_with_regions_take_the_place_of_documents() -> None:
    """One region of each image holds all that speaks for its class."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False))
    model[1].weight.data = torch.stack([torch.ones(16), -torch.ones(16)])
    images = torch.zeros(2, 1, 4, 4)
    images[0, 0, 0, 0], images[1, 0, 3, 3], images[1, 0, 0, 0] = 1.0, 2.0, -3.0
    found = deletion_accuracy(
        model,
        images,
        images[:, 0],
        torch.tensor([0, 0]),
        region_size=2,
        steps=2,
        replacement=Constant(0.0),
    )
    # The first one is then undecided, and goes to the first class; the second is put right.
    assert found.is_right.tolist() == [True, False]
    assert found.of_wrong.tolist() == [0, 1, 1]
    assert found.of_right.tolist() == [1, 1, 1]


def test_batches_are_joined() -> None:
    model, batch = classifier("CNN"), texts((9, 6, 4, 9, 8, 7))
    relevance = torch.rand(6, 9)
    whole = deletion_accuracy(model, batch, relevance, LABELS, steps=STEPS)
    parts = []
    for rows in (slice(0, 2), slice(2, 6)):
        part = {name: entry[rows] for name, entry in batch.items()}
        parts.append(deletion_accuracy(model, part, relevance[rows], LABELS[rows], steps=STEPS))
    joined = DeletionAccuracy.joined(parts)
    assert torch.equal(joined.decided, whole.decided)
    assert torch.equal(joined.is_right, whole.is_right)


def test_what_does_not_fit_is_told() -> None:
    model, batch, relevance = classifier("CNN"), texts(), torch.rand(3, 9)
    with pytest.raises(ValueError, match=r'of the shortest of these texts.*step_is="share"'):
        deletion_accuracy(model, batch, relevance, LABELS[:3], steps=3)
    shares = deletion_accuracy(model, batch, relevance, LABELS[:3], steps=3, step_is="share")
    assert shares.decided.shape == (3, 4)
    with pytest.raises(ValueError, match="labels is"):
        deletion_accuracy(model, batch, relevance, LABELS, steps=2)
    with pytest.raises(ValueError, match="classes from 0 to 7; the model has 3"):
        deletion_accuracy(model, batch, relevance, torch.tensor([0, 7, 1]), steps=2)
