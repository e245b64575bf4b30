from __future__ import annotations

import builtins
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from aopc_monitor.metrics import (
    average_thresholded_confidence,
    confidence,
    cot,
    mano,
    negative_entropy,
    nuclear_norm,
)

logits = st.lists(
    st.lists(st.floats(-20, 20, width=32), min_size=3, max_size=3), min_size=1, max_size=20
)
# Whole numbers, so that scores are often tied.
scored = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=40)


def split(pairs: list[tuple[int, bool]]) -> tuple[Tensor, Tensor]:
    scores, correct = zip(*pairs, strict=True)
    return torch.tensor(scores).float(), torch.tensor(correct)


@given(logits)
def test_ranges_and_order_of_classes(rows: list[list[float]]) -> None:
    probabilities = torch.tensor(rows).softmax(dim=1)
    shuffled = probabilities[:, [2, 0, 1]]
    for score, low, high in ((confidence, 1 / 3, 1.0), (negative_entropy, -math.log(3), 0.0)):
        values = score(probabilities)
        assert values.shape == (len(rows),)
        assert float(values.min()) >= low - 1e-6
        assert float(values.max()) <= high + 1e-6
        assert values.tolist() == pytest.approx(score(shuffled).tolist(), abs=1e-6)


def test_negative_entropy_is_that_of_torch() -> None:
    probabilities = torch.rand(50, 7).softmax(dim=1)
    expected = -torch.distributions.Categorical(probabilities).entropy()
    assert negative_entropy(probabilities).tolist() == pytest.approx(expected.tolist(), abs=1e-6)


@given(scored)
def test_on_the_source_itself_the_guess_is_the_accuracy_unless_tied(
    pairs: list[tuple[int, bool]],
) -> None:
    scores, correct = split(pairs)
    untied = scores + torch.arange(len(scores)) / 1000
    accuracy = float(correct.double().mean())
    assert average_thresholded_confidence(untied, correct, untied) == pytest.approx(accuracy)
    assert average_thresholded_confidence(scores, correct, scores) >= accuracy - 1e-9


@given(scored, scored)
def test_no_monotone_map_of_the_score_and_no_order_of_images_matters(
    source: list[tuple[int, bool]], target: list[tuple[int, bool]]
) -> None:
    (scores, correct), (others, _) = split(source), split(target)
    guess = average_thresholded_confidence(scores, correct, others)
    assert 0 <= guess <= 1
    assert average_thresholded_confidence(3 * scores - 7, correct, 3 * others - 7) == guess
    assert average_thresholded_confidence(scores.flip(0), correct.flip(0), others.flip(0)) == guess


@given(scored, scored)
def test_more_certain_images_are_never_guessed_worse(
    source: list[tuple[int, bool]], target: list[tuple[int, bool]]
) -> None:
    (scores, correct), (others, _) = split(source), split(target)
    guess = average_thresholded_confidence(scores, correct, others)
    assert average_thresholded_confidence(scores, correct, others + 1) >= guess


def test_a_source_without_a_correct_image_guesses_zero() -> None:
    scores, wrong = torch.tensor([0.1, 0.2]), torch.tensor([False, False])
    assert average_thresholded_confidence(scores, wrong, torch.tensor([9.0])) == 0.0


def test_bad_input_is_named() -> None:
    two = torch.tensor([0.1, 0.2])
    with pytest.raises(ValueError, match=r"source_correct has shape \(3,\)"):
        average_thresholded_confidence(two, torch.ones(3), two)
    with pytest.raises(ValueError, match="target_scores is empty"):
        average_thresholded_confidence(two, torch.ones(2), torch.zeros(0))


def some_probabilities(seed: int, count: int, classes: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(count, classes, generator=source, dtype=torch.float64)).softmax(dim=1)


seeds = st.integers(0, 2**31)


@given(seeds, st.integers(1, 12), st.integers(1, 6))
def test_nuclear_norm_is_the_sum_of_singular_values(seed: int, count: int, classes: int) -> None:
    probabilities = some_probabilities(seed, count, classes)
    # The square roots of the eigenvalues of the lesser product with itself.
    squares = np.linalg.eigvalsh((probabilities.T @ probabilities).numpy()).clip(min=0)
    most = math.sqrt(count * min(count, classes))
    assert float(nuclear_norm(probabilities)) == pytest.approx(np.sqrt(squares).sum() / most, 1e-6)
    numpys = np.linalg.norm(probabilities.numpy(), "nuc") / most
    assert float(nuclear_norm(probabilities)) == pytest.approx(numpys, abs=1e-10)
    assert 0 < float(nuclear_norm(probabilities)) <= 1 + 1e-12


def test_nuclear_norm_falls_where_all_images_get_one_class() -> None:
    balanced, one = torch.eye(4).repeat(5, 1), torch.eye(4)[:1].repeat(20, 1)
    assert float(nuclear_norm(balanced)) == pytest.approx(1)
    assert float(nuclear_norm(one)) == pytest.approx(1 / 2)  # 1 / sqrt(classes)
    assert float(nuclear_norm(torch.full((20, 4), 0.25))) == pytest.approx(1 / 4)


def mano_slowly(logits: list[list[float]], power: float, threshold: float) -> float:
    cross_entropies, entries = [], []
    for row in logits:
        total = sum(math.exp(q) for q in row)
        cross_entropies.append(-sum(math.log(math.exp(q) / total) for q in row) / len(row))
    is_softmax = sum(cross_entropies) / len(logits) > threshold
    for row in logits:
        values = [math.exp(q) if is_softmax else 1 + q + q**2 / 2 for q in row]
        entries += [value / sum(values) for value in values]
    return float((sum(entry**power for entry in entries) / len(entries)) ** (1 / power))


@given(seeds, st.integers(1, 8), st.integers(2, 6), st.sampled_from([1.0, 2.0, 4.0, 7.5]))
def test_mano_is_that_of_slow_loops(seed: int, count: int, classes: int, power: float) -> None:
    source = torch.Generator().manual_seed(seed)
    logits = 8 * torch.randn(count, classes, generator=source, dtype=torch.float64)
    for threshold in (0.0, 5.0, math.inf):
        slow = mano_slowly(logits.tolist(), power, threshold)
        found = float(mano(logits, power=power, threshold=threshold))
        assert found == pytest.approx(slow, abs=1e-10)
        assert 1 / classes - 1e-12 <= found <= classes ** (-1 / power) + 1e-12


def test_mano_takes_softmax_above_the_threshold_only() -> None:
    far, near = torch.tensor([[50.0, 0.0, 0.0]]), torch.tensor([[5.0, 0.0, 0.0]])
    assert float(mano(far)) == float(mano(far, threshold=0)) != float(mano(far, threshold=math.inf))
    assert (
        float(mano(near)) == float(mano(near, threshold=math.inf)) != float(mano(near, threshold=0))
    )
    shifted = [float(mano(near + 3, threshold=threshold)) for threshold in (0, math.inf)]
    assert shifted[0] == pytest.approx(float(mano(near, threshold=0)))
    assert shifted[1] != pytest.approx(float(mano(near)), abs=0.01)


@given(seeds, st.integers(1, 6), st.integers(2, 4))
@settings(max_examples=30, deadline=None)
def test_cot_is_the_best_of_all_assignments(seed: int, count: int, classes: int) -> None:
    pytest.importorskip("scipy")
    probabilities = some_probabilities(seed, count, classes)
    source = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=source)
    one_hot = torch.eye(classes, dtype=torch.float64)
    costs = [
        (one_hot[list(order)] - probabilities).abs().sum(dim=1).mean() / 2
        for order in itertools.permutations(labels.tolist())
    ]
    assert float(cot(probabilities, labels)) == pytest.approx(1 - float(min(costs)), abs=1e-10)


@pytest.mark.parametrize("frequencies", [(0.25, 0.25, 0.5), (0.1, 0.2, 0.7), (0.0, 0.0, 1.0)])
def test_cot_is_optimal_transport_as_a_linear_program(frequencies: tuple[float, ...]) -> None:
    """Of any number of labels: only their frequencies count."""
    optimize = pytest.importorskip("scipy.optimize")
    count, classes = 20, 3
    probabilities = some_probabilities(0, count, classes)
    rows = np.kron(np.eye(count), np.ones(classes))
    columns = np.kron(np.ones(count), np.eye(classes))
    masses = np.concatenate([np.full(count, 1 / count), frequencies])
    one_hot = torch.eye(classes, dtype=torch.float64)
    cost = (one_hot - probabilities[:, None]).abs().sum(dim=2) / 2
    solved = optimize.linprog(
        cost.flatten().numpy(), A_eq=np.concatenate([rows, columns]), b_eq=masses
    )
    for of_labels in (20, 40, 100):
        times = torch.tensor([round(of_labels * share) for share in frequencies])
        labels = torch.arange(classes).repeat_interleave(times)
        shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
        assert float(cot(probabilities, shuffled)) == pytest.approx(1 - solved.fun, abs=1e-10)


@given(seeds, st.integers(1, 10), st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_cot_is_at_most_the_mean_confidence(seed: int, count: int, classes: int) -> None:
    pytest.importorskip("scipy")
    probabilities = some_probabilities(seed, count, classes)
    mean = float(confidence(probabilities).mean())
    labels = torch.arange(count) % classes
    assert 0 <= float(cot(probabilities, labels)) <= mean + 1e-12
    # And is that where the labels are as frequent as the predictions.
    assert float(cot(probabilities, probabilities.argmax(dim=1))) == pytest.approx(mean)


def test_without_scipy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("scipy"):
            raise ModuleNotFoundError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match="pip install scipy"):
        cot(torch.eye(2), torch.tensor([0, 1]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_will_do(dtype: torch.dtype) -> None:
    rows = some_probabilities(0, 50, 100)
    for score in (confidence, negative_entropy, nuclear_norm):
        found = score(rows.to(dtype)).double()
        assert torch.allclose(found, score(rows).double(), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("score", [confidence, negative_entropy, nuclear_norm])
def test_what_are_no_probabilities_is_named(score: Any) -> None:
    with pytest.raises(ValueError, match=r"probabilities has .* take logits.softmax"):
        score(torch.randn(3, 4) * 3)
    with pytest.raises(ValueError, match=r"probabilities has shape \(4,\)"):
        score(torch.full((4,), 0.25))
    with pytest.raises(ValueError, match=r"probabilities has shape \(0, 4\)"):
        score(torch.zeros(0, 4))
    with pytest.raises(TypeError, match=r"probabilities is torch.int64"):
        score(torch.tensor([[1, 0]]))
    with pytest.raises(ValueError, match=r"probabilities holds NaN"):
        score(torch.tensor([[math.nan, 1.0]]))


def test_bad_logits_and_settings_are_named() -> None:
    with pytest.raises(ValueError, match="logits holds NaN or infinite values"):
        mano(torch.tensor([[math.inf, 0.0]]))
    with pytest.raises(TypeError, match="logits is list"):
        mano([[1.0, 0.0]])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="power=0 must be above 0"):
        mano(torch.zeros(1, 2), power=0)
    with pytest.raises(ValueError, match="threshold=-1 must be at least 0"):
        mano(torch.zeros(1, 2), threshold=-1)


def test_labels_of_other_classes_are_named() -> None:
    pytest.importorskip("scipy")
    with pytest.raises(ValueError, match="labels holds classes from 2 to 2"):
        cot(torch.eye(2), torch.tensor([2]))
    with pytest.raises(TypeError, match=r"labels is torch.float32"):
        cot(torch.eye(2), torch.eye(2))
