from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
import torch

from recipes.label_free_limits.looks import Condition
from recipes.label_free_limits.references import fitted, linear_reference, seen_by_references
from recipes.label_free_limits.regimes import Regime
from recipes.label_free_limits.signals import REFERENCES
from recipes.label_free_limits.subjects import Subjects, all_images
from recipes.shared.data.datasets import digits

OPTIONS = Namespace(
    source_images=20, known_images=30, test_images=50, probe_images=40, num_images=10
)


def test_linear_scores_are_those_of_ridge_regression() -> None:
    """With more pixels than images and with fewer, where the closed forms differ."""
    generator = torch.Generator().manual_seed(0)
    for count in (9, 60):
        images = torch.randn(count, 3, 2, 4, generator=generator)
        labels = torch.randint(4, (count,), generator=generator)
        scores = linear_reference(images, labels, 4, ridge=2.0)(images)
        pixels = images.flatten(1).double()
        design = torch.cat([pixels, torch.ones(count, 1)], dim=1)
        # The mean takes no penalty.
        penalty = 2.0 * torch.eye(25, dtype=torch.float64)
        penalty[-1, -1] = 0
        weights = torch.linalg.solve(
            design.T @ design + penalty,
            design.T @ torch.nn.functional.one_hot(labels, 4).double(),
        )
        torch.testing.assert_close(scores, design @ weights)


@pytest.fixture(scope="module")
def subjects() -> Subjects:
    data = digits(train_size=300, test_size=60)
    return Subjects.of(OPTIONS, data, Regime("noisy", num_images=200, wrong_labels=0.4), seed=3)


def test_references_see_the_probe_under_each_condition_once(
    subjects: Subjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = Path("weights/step_0000005.pt")
    conditions = Condition.corrupted(weights, ["noise"], [5])
    file = tmp_path / "seen.pt"
    found = seen_by_references(subjects, conditions, file, seed=0)
    assert set(found) == {"none_0", "noise_5"}
    for classes in found.values():
        assert {name: len(of) for name, of in classes.items()} == dict.fromkeys(REFERENCES, 40)
    assert not torch.equal(found["none_0"]["ref"], found["noise_5"]["ref"])
    monkeypatch.setattr("recipes.label_free_limits.references.fitted", None)
    again = seen_by_references(subjects, conditions, file, seed=0)
    assert all(torch.equal(again[key]["ref"], found[key]["ref"]) for key in found)


def test_references_know_the_labels_that_they_were_given(subjects: Subjects) -> None:
    train = subjects.data.train
    plain = train.part(torch.arange(len(train)), augmented=False)
    for name, reference in fitted(subjects, seed=0).items():
        right = reference(all_images(plain)).argmax(dim=1) == plain.labels
        assert float(right.double().mean()) > (0.3 if name == "ref_few" else 0.6), name


def test_the_probe_and_what_is_perturbed_are_the_first_test_images(subjects: Subjects) -> None:
    test = subjects.data.test
    assert (len(test), len(subjects.probe), len(subjects.perturbed)) == (50, 40, 10)
    assert torch.equal(subjects.probe.images, test.images[:40])
    assert torch.equal(subjects.perturbed.images, test.images[:10])
    assert (len(subjects.known), len(subjects.source)) == (30, 20)
    # Training images come with the labels that are given, wrong ones too.
    pixels = subjects.data.train.images.flatten(1)
    for image, label in zip(subjects.known.images, subjects.known.labels, strict=True):
        rows = (pixels == image.flatten()).all(dim=1).nonzero()[:, 0]
        assert label in subjects.data.train.labels[rows]
