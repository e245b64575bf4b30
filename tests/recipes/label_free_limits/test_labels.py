from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recipes.label_free_limits.labels import unbalanced_rows, with_wrong_labels


@given(st.integers(1, 200), st.floats(0, 1), st.integers(2, 12), st.integers(0, 5))
def test_share_of_wrong_labels(count: int, share: float, classes: int, seed: int) -> None:
    labels = torch.arange(count) % classes
    before = labels.clone()
    noisy = with_wrong_labels(labels, share, classes, seed)
    assert int((noisy != labels).sum()) == round(share * count)
    assert int(noisy.min()) >= 0
    assert int(noisy.max()) < classes
    assert torch.equal(labels, before)
    assert torch.equal(with_wrong_labels(labels, share, classes, seed), noisy)


def test_every_other_class_is_as_likely() -> None:
    noisy = with_wrong_labels(torch.zeros(9000, dtype=torch.long), 1.0, 4, seed=0)
    counts = torch.bincount(noisy, minlength=4)
    assert counts[0] == 0
    assert counts[1:].tolist() == pytest.approx([3000] * 3, rel=0.1)


def test_asymmetric_labels_go_to_the_next_class_and_from_the_last_to_the_first() -> None:
    labels = torch.arange(300) % 3
    noisy = with_wrong_labels(labels, 0.5, 3, seed=1, is_asymmetric=True)
    changed = noisy != labels
    assert int(changed.sum()) == 150
    assert torch.equal(noisy[changed], (labels[changed] + 1) % 3)


@given(st.integers(2, 8), st.floats(0.01, 1))
def test_classes_grow_rarer_and_none_vanishes(classes: int, rarest: float) -> None:
    labels = torch.arange(20 * classes) % classes
    rows = unbalanced_rows(labels, rarest, classes)
    counts = labels[rows].bincount(minlength=classes).tolist()
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 20
    assert counts[-1] == max(round(20 * rarest), 1)
    assert rows.tolist() == sorted(set(rows.tolist()))
