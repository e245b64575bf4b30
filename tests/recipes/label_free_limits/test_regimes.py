from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recipes.label_free_limits.regimes import REGIMES, Regime, data_of_regime, look_steps
from recipes.shared.data.datasets import digits


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


def test_rare_classes_and_wrong_labels_of_one_kind() -> None:
    data = digits(train_size=2000, test_size=20)
    regime = Regime("hard", num_images=500, rarest=0.1, wrong_labels=0.4, is_asymmetric=True)
    plain = Regime("plain", num_images=500, rarest=0.1)
    (hard, _), (right, _) = (data_of_regime(r, data, 50, seed=0) for r in (regime, plain))
    assert torch.equal(hard.train.images, right.train.images)
    counts = right.train.labels.bincount(minlength=10)
    assert counts[9] < 0.2 * counts[0]
    off = (hard.train.labels - right.train.labels) % 10
    assert set(off.tolist()) == {0, 1}
    assert float(off.double().mean()) == pytest.approx(0.4, abs=0.05)


def test_a_training_depends_on_what_is_not_of_its_looks() -> None:
    """So that another title, or looks elsewhere, leave the trainings that were made."""
    plain = Regime("title", num_images=5)
    looked_at = replace(plain, title="other", looks_late=True, shift=("blur", 1))
    assert plain.of_training() == looked_at.of_training() == {"num_images": 5}
    assert REGIMES["label_noise"].of_training() != REGIMES["less_noise"].of_training()


@pytest.mark.parametrize("name", REGIMES)
def test_regimes_that_build_on_others_build_on_trainings(name: str) -> None:
    for other in (REGIMES[name].trained_as, REGIMES[name].starts_from):
        assert other is None or REGIMES[other].trained_as is None
