from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from aopc_monitor.metrics import nearest_labels

seeds = st.integers(0, 2**31)
# On a grid, where distances are exact, and often equal.
points = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=12)


def some(
    seed: int, count: int = 40, of_training: int = 90, size: int = 6
) -> tuple[Tensor, Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count + of_training, size, generator=source)
    labels = torch.randint(5, (of_training,), generator=source)
    return drawn[:count], drawn[count:], labels


def slowly(features: Tensor, training: Tensor, labels: Tensor, k: int) -> list[int]:
    """Image by image; equally near ones in their order, equally frequent labels by the nearest."""
    found = []
    for image in features.double():
        squares = [float((image - other).square().sum()) for other in training.double()]
        order = sorted(range(len(squares)), key=lambda row: (squares[row], row))[:k]
        near = [int(labels[row]) for row in order]
        found.append(max(near, key=lambda label: (near.count(label), -near.index(label))))
    return found


@pytest.mark.parametrize("k", [1, 2, 5, 90])
@pytest.mark.parametrize("seed", range(3))
def test_labels_are_those_of_a_slow_loop(seed: int, k: int) -> None:
    given = some(seed)
    assert nearest_labels(*given, k=k).tolist() == slowly(*given, k)


@given(points, points, st.integers(1, 5), seeds)
def test_equally_near_ones_count_in_their_order(
    images: list[tuple[int, int]], training: list[tuple[int, int]], k: int, seed: int
) -> None:
    source = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (len(training),), generator=source)
    # The middle of two points and their mirror images is 0, so that nothing is rounded.
    both = torch.tensor(training + [(-x, -y) for x, y in training]).float()
    labels, features = labels.repeat(2), torch.tensor(images).float()
    found = nearest_labels(features, both, labels, k=min(k, len(both)))
    assert found.tolist() == slowly(features, both, labels, min(k, len(both)))


@pytest.mark.parametrize("k", [1, 5])
def test_labels_are_those_of_scikit_learn(k: int) -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    for seed in range(5):
        features, training, labels = some(seed)
        search = neighbors.NearestNeighbors(n_neighbors=k).fit(training.numpy())
        rows = torch.as_tensor(search.kneighbors(features.numpy(), return_distance=False))
        votes = torch.nn.functional.one_hot(labels[rows], 5).sum(dim=1)
        found = nearest_labels(features, training, labels, k=k)
        assert (votes.gather(1, found[:, None])[:, 0] == votes.amax(dim=1)).all()


def test_training_images_have_their_own_labels() -> None:
    _, training, labels = some(0)
    assert torch.equal(nearest_labels(training, training, labels), labels)
    # Also where features are large and differ little, in half precision too.
    assert torch.equal(nearest_labels(1e4 + training, 1e4 + training, labels), labels)
    half = training.bfloat16()
    assert torch.equal(nearest_labels(half, half, labels), labels)


@given(seeds, st.integers(1, 50), st.integers(1, 4))
def test_the_chunk_changes_nothing(seed: int, chunk: int, k: int) -> None:
    given = some(seed, count=23)
    found = nearest_labels(*given, k=k, chunk=chunk)
    assert torch.equal(found, nearest_labels(*given, k=k))


@given(seeds)
def test_neither_place_nor_scale_nor_turning_matters(seed: int) -> None:
    features, training, labels = (x.double() if x.ndim == 2 else x for x in some(seed))
    found = nearest_labels(features, training, labels)
    source = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=source, dtype=torch.float64)).Q
    moved = [7 * x @ turn + 3 for x in (features, training)]
    assert torch.equal(nearest_labels(moved[0], moved[1], labels), found)


def test_features_are_left_alone_and_need_no_gradient() -> None:
    features, training, labels = some(0)
    kept = features.clone(), training.clone()
    found = nearest_labels(features.requires_grad_(), training.requires_grad_(), labels)
    assert not found.requires_grad
    assert torch.equal(features, kept[0])
    assert torch.equal(training, kept[1])
    assert features.grad is None


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"features": torch.zeros(2, 6, 4, 4)}, ValueError, r"features has shape \(2, 6, 4, 4\)"),
        ({"features": torch.zeros(2, 6).long()}, TypeError, "features is torch.int64"),
        ({"features": torch.zeros(0, 6)}, ValueError, r"features has shape \(0, 6\)"),
        ({"features": torch.full((2, 6), torch.nan)}, ValueError, "^features holds NaN"),
        ({"features": torch.zeros(2, 5)}, ValueError, "has 6 features .* features has 5"),
        ({"training_features": [1.0]}, TypeError, "training_features is list"),
        ({"training_labels": torch.zeros(90)}, TypeError, "training_labels is torch.float32"),
        ({"training_labels": torch.zeros(89).long()}, ValueError, "has 89 labels for 90"),
        ({"training_labels": torch.zeros(90) > 0}, TypeError, "training_labels is torch.bool"),
        ({"k": 0}, ValueError, "k=0 must be"),
        ({"k": 91}, ValueError, "k=91; .* no more neighbours"),
        ({"chunk": 0}, ValueError, "chunk=0 must be"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], error: Any, message: str) -> None:
    features, training, labels = some(0)
    arguments: dict[str, Any] = {
        "features": features,
        "training_features": training,
        "training_labels": labels,
    }
    with pytest.raises(error, match=message):
        nearest_labels(**{**arguments, **changes})
