"""The reference: what it learns, that it is always the same, and what it cannot be fitted on."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from aopc_monitor import FixedReference
from aopc_monitor.metrics.patch_features import (
    LEAST_VARIANCE,
    THRESHOLD,
    PatchFeatures,
    averaged_down,
    ridge_classifier,
)

CLASSES = 3
Batches = list[tuple[Tensor, Any]]


def stripes(count: int, side: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images of three textures: horizontal and vertical stripes, and noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    labels[:CLASSES] = torch.arange(CLASSES)
    images = 0.7 * torch.randn(count, 3, side, side, generator=generator)
    wave = torch.where(torch.arange(side) % 4 < 2, 1.0, -1.0)
    images[labels == 0] += wave[:, None]
    images[labels == 1] += wave
    return images, labels


def fitted(batches: Any = None, **changes: Any) -> FixedReference:
    settings: dict[str, Any] = {"num_patches": 24, "patch_size": 4} | changes
    return FixedReference.fit([stripes(120)] if batches is None else batches, **settings)


def test_it_learns_what_patches_tell() -> None:
    images, labels = stripes(90, seed=1)
    reference = fitted()
    assert reference.num_classes == CLASSES
    assert float((reference.predict(images) == labels).float().mean()) > 0.9
    scores = reference(images)
    assert scores.shape == (90, CLASSES)
    assert scores.dtype == torch.float32
    assert not scores.requires_grad


def test_it_learns_from_labels_of_which_many_are_wrong() -> None:
    images, labels = stripes(400)
    wrong = torch.rand(400, generator=torch.Generator().manual_seed(2)) < 0.4
    given = torch.where(wrong, (labels + 1 + wrong.cumsum(0) % 2) % CLASSES, labels)
    reference = fitted([(images, given)])
    others, right = stripes(90, seed=1)
    assert float((reference.predict(others) == right).float().mean()) > 0.85


def test_features_are_those_of_a_slow_loop() -> None:
    images, _ = stripes(5)
    features = PatchFeatures.of(images, num_patches=6, patch_size=4, seed=0)
    x = ((images - features.mean[:, None, None]) / features.std[:, None, None]).double()
    places = 12 - 4 + 1
    responses = torch.zeros(5, 6, places, places, dtype=torch.float64)
    for row in range(places):
        for column in range(places):
            patch = x[:, :, row : row + 4, column : column + 4].flatten(1)
            patch = patch - patch.mean(dim=1, keepdim=True)
            patch = patch / (patch.var(dim=1, keepdim=True) + LEAST_VARIANCE).sqrt()
            by_hand = patch @ features.filters.flatten(1).double().T + features.offsets.double()
            responses[:, :, row, column] = by_hand
    pooled = [
        F.adaptive_avg_pool2d((sign * responses - THRESHOLD).clamp_min(0), 2) for sign in (1, -1)
    ]
    expected = torch.cat(pooled, dim=1).flatten(1)
    torch.testing.assert_close(features(images).double(), expected, rtol=1e-4, atol=1e-5)


def test_filters_make_patches_white() -> None:
    images, _ = stripes(200)
    features = PatchFeatures.of(images, num_patches=8, patch_size=3, seed=0)
    filters = features.filters.flatten(1)
    # A filter is a whitened patch of length one, whitened once more, and sees no patch's mean.
    torch.testing.assert_close(filters.mean(dim=1), torch.zeros(8), atol=1e-6, rtol=0)
    assert torch.linalg.matrix_rank(filters) == 8


def test_ridge_solves_the_normal_equations() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1100, 5, generator=generator) * torch.tensor([1.0, 9.0, 0.1, 2.0, 0.0])
    features[:, 4] = 3.0  # a feature that no image differs in
    labels = torch.randint(4, (1100,), generator=generator)
    weights, offsets = ridge_classifier(features, labels, 4, ridge=0.5)
    x = features.double() - features.double().mean(dim=0)
    std = x.std(dim=0)
    std[4] = 1.0
    x /= std
    y = F.one_hot(labels, 4).double()
    matrix = x.T @ x + 0.5 * 1100 * torch.eye(5, dtype=torch.float64)
    expected = x @ torch.linalg.inv(matrix) @ x.T @ (y - y.mean(dim=0)) + y.mean(dim=0)
    torch.testing.assert_close(
        (features @ weights + offsets).double(), expected, rtol=1e-4, atol=1e-5
    )


def test_the_same_seed_gives_the_same_reference() -> None:
    images, _ = stripes(10, seed=3)
    first, again, other = fitted(), fitted(), fitted(seed=1)
    assert torch.equal(first(images), again(images))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert repr(first) == f"FixedReference(3 classes, {first.fingerprint})"


def test_a_loader_that_shuffles_is_seeded_and_the_global_generators_stay() -> None:
    loader = DataLoader(TensorDataset(*stripes(120)), batch_size=16, shuffle=True)

    def of(global_seed: int) -> tuple[str, Tensor]:
        torch.manual_seed(global_seed)
        reference = fitted(loader, images_at_most=48)
        return reference.fingerprint, torch.rand(3)

    torch.manual_seed(5)
    undisturbed = torch.rand(3)
    (first, numbers), (second, _) = of(5), of(6)
    assert first == second
    assert torch.equal(numbers, undisturbed)


def test_scale_and_shift_of_the_images_change_nothing() -> None:
    images, labels = stripes(120)
    scaled = fitted([(40 * images + 100, labels)])
    torch.testing.assert_close(scaled(40 * images + 100), fitted()(images), rtol=1e-2, atol=1e-3)


def test_a_channel_of_one_value_tells_nothing_and_spoils_nothing() -> None:
    images, labels = stripes(120)
    images = torch.cat([images, torch.full_like(images[:, :1], 0.7)], dim=1)
    reference = fitted([(images, labels)])
    assert reference(images).isfinite().all()
    assert float((reference.predict(images) == labels).float().mean()) > 0.9


def test_autocast_around_it_changes_nothing() -> None:
    expected = fitted().fingerprint
    with torch.autocast("cpu", torch.bfloat16):
        assert fitted().fingerprint == expected


def test_images_are_judged_one_by_one() -> None:
    reference = fitted()
    images, _ = stripes(40)
    alone = torch.cat([reference(image[None]) for image in images])
    torch.testing.assert_close(reference(images), alone, rtol=1e-4, atol=1e-5)
    images.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(reference(images), reference(images.detach()))


def test_large_images_are_averaged_down() -> None:
    images = torch.rand(2, 3, 64, 48)
    small = averaged_down(images)
    assert small.shape == (2, 3, 32, 24)
    torch.testing.assert_close(small, F.avg_pool2d(images, 2))
    reference = fitted([stripes(60, side=40)])
    assert reference.image_shape == (3, 40, 40)
    assert reference(stripes(6, side=40)[0]).shape == (6, CLASSES)


def test_it_survives_saving_and_pickling() -> None:
    reference, (images, _) = fitted(), stripes(10)
    file = io.BytesIO()
    torch.save(reference.state_dict(), file)
    file.seek(0)
    loaded = FixedReference.from_state(torch.load(file, weights_only=True))
    assert loaded.fingerprint == reference.fingerprint
    assert torch.equal(loaded(images), reference(images))
    assert pickle.loads(pickle.dumps(reference)).fingerprint == reference.fingerprint
    assert reference.to("cpu").fingerprint == reference.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        lambda labels: F.one_hot(labels, CLASSES),
        lambda labels: labels.float(),
        lambda labels: labels[:, None],
        lambda labels: labels.tolist(),
    ],
)
def test_labels_come_in_any_usual_form(change: Callable[[Tensor], Any]) -> None:
    images, labels = stripes(120)
    assert fitted([(images, change(labels))]).fingerprint == fitted().fingerprint


def test_images_without_a_label_are_left_out() -> None:
    images, labels = stripes(120)
    more = [(images, labels), (torch.randn(8, 3, 12, 12), torch.full((8,), -100))]
    assert fitted(more).fingerprint == fitted().fingerprint


def test_places_of_images_and_labels_may_be_told() -> None:
    images, labels = stripes(120)
    batch = {"first": images, "second": {"class": labels}}
    found = fitted(
        [batch], images_fn=lambda b: b["first"], labels_fn=lambda b: b["second"]["class"]
    )
    assert found.fingerprint == fitted().fingerprint


X, Y = stripes(30)
BAD: list[tuple[Any, dict[str, Any], str]] = [
    ([X], {}, "no labels to fit on were found in a batch that is"),
    ([], {}, "gave no batch"),
    ([(X, torch.rand(30))], {}, r"batch\[1\] .*float32.* is not taken for labels"),
    ([(X, torch.zeros(30, 12, 12).long())], {}, "is not taken for labels"),
    ([(X, torch.ones(30, 3).long())], {}, "is not taken for labels"),
    ([(X, ["cat"] * 30)], {}, "is not taken for labels"),
    ([(X, Y)], {"labels_fn": lambda batch: batch[1][:7]}, "labels_fn gave .*7"),
    ([(X[:2], Y[:2])], {"num_classes": 5}, "2 labelled images are fewer than the 5 classes"),
    ([(X, Y * 2)], {}, "no image of class 1, 3 is among the 30"),
    ([(X, Y + 1)], {}, "no image of class 0 .* counted from 0"),
    ([(X, Y)], {"num_classes": 2}, "labels go up to 2, and num_classes=2"),
    ([(X, Y)], {"num_classes": 4}, "no image of class 3"),
    ([(X, torch.zeros(30).long())], {}, "have 0 as their only class"),
    ([(X, torch.full((30,), -1))], {}, "the 0 labelled images have none as their only class"),
    ([(X, Y), (X[:, :, :8], Y)], {}, "differ in shape"),
    ([(X[:, 0], Y)], {}, r"a FixedReference is of images \(N, C, H, W\).*callable of your own"),
    ([(X.mean((2, 3)), Y)], {}, "callable of your own"),
    ([(X.byte(), Y)], {}, "floating-point"),
    ([(X / 0, Y)], {}, "NaN"),
    ([(X, Y)], {"patch_size": 13}, "patch_size=13 is larger than the images of 12 x 12"),
    ([(X, Y)], {"patch_size": 0}, "patch_size=0"),
    ([(X[:, :1], Y)], {"patch_size": 1}, "patch_size=1 of images with one channel"),
    ([(X, Y)], {"num_patches": 1.5}, "num_patches=1.5"),
    ([(X, Y)], {"images_at_most": 0}, "images_at_most=0"),
    ([(X, Y)], {"ridge": 0}, "ridge=0 must be a number above 0"),
    ([(X, Y)], {"ridge": float("nan")}, "ridge=nan"),
    ([(X, Y)], {"seed": -1}, "seed=-1"),
]


@pytest.mark.parametrize(("batches", "changes", "message"), BAD)
def test_what_it_cannot_be_fitted_on(batches: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        fitted(batches, **changes)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"was fitted on images of \(3, 12, 12\)"):
        fitted()(torch.rand(2, 3, 16, 16))
