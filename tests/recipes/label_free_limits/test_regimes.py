from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recipes.label_free_limits.regimes import (
    REGIMES,
    Regime,
    data_of_regime,
    look_steps,
    with_wrong_labels,
)
from recipes.shared.data.datasets import digits


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


def test_wrong_labels_reach_the_training_and_the_source_but_not_the_test() -> None:
    data = digits(train_size=400, test_size=50)
    noisy = Regime("noisy", wrong_labels=0.5, num_images=300)
    clean = Regime("clean", num_images=300)
    (train, source), (train_clean, source_clean) = (
        data_of_regime(regime, data, source_images=60, seed=1) for regime in (noisy, clean)
    )
    assert (len(train.train), len(source)) == (300, 60)
    assert torch.equal(train.train.images, train_clean.train.images)
    assert torch.equal(source.images, source_clean.images)
    wrong = (train.train.labels != train_clean.train.labels).sum()
    wrong_source = (source.labels != source_clean.labels).sum()
    assert int(wrong + wrong_source) == 180
    assert 10 < int(wrong_source) < 50
    assert torch.equal(train.test.labels, data.test.labels)


def test_a_data_set_that_is_smaller_than_wanted_is_used_whole() -> None:
    data = digits(train_size=100, test_size=10)
    train, source = data_of_regime(REGIMES["small_set"], data, source_images=30, seed=0)
    assert (len(train.train), len(source)) == (70, 30)
    both = torch.cat([train.train.images, source.images]).flatten(1).float()
    assert len(both.unique(dim=0)) == len(data.train.images.flatten(1).unique(dim=0))


@given(st.integers(2, 5000), st.integers(2, 40), st.booleans())
def test_looks_lie_within_the_training_and_end_with_it(
    last: int, count: int, looks_late: bool
) -> None:
    steps = look_steps(last, count, looks_late)
    assert steps == sorted(set(steps))
    assert steps[0] >= 1
    assert steps[-1] == last
    assert len(steps) <= max(count, 3)


def test_half_of_the_looks_are_late_if_wanted() -> None:
    late = [step for step in look_steps(4680, 20, looks_late=True) if step > 4680 / 3]
    few = [step for step in look_steps(4680, 20) if step > 4680 / 3]
    assert len(late) == 10
    assert len(few) < 5
