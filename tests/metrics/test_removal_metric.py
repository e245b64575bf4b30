"""The removal metrics: each is its function averaged over images, and a metric like the others."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torchmetrics import MetricCollection

from aopc_monitor import metrics
from aopc_monitor.heatmaps import LRPEpsilon, Occlusion
from aopc_monitor.metrics import RemovalMetric
from aopc_monitor.perturbation import Constant
from tests.metrics.test_aopc import images, network
from tests.texts import classifier, texts

SIZE: dict[str, Any] = {"region_size": 4}
FEW: dict[str, Any] = {**SIZE, "draws": 3, "shares": (0.2, 0.5)}
# Each metric, its function, and what both are given.
PAIRS: list[tuple[Any, Callable[..., Any], dict[str, Any]]] = [
    (metrics.Deletion, metrics.deletion, {**SIZE, "steps": 5}),
    (metrics.Insertion, metrics.insertion, {**SIZE, "steps": 5}),
    (metrics.Comprehensiveness, metrics.comprehensiveness, {**SIZE, "shares": (0.2, 0.5)}),
    (metrics.Sufficiency, metrics.sufficiency, {**SIZE, "shares": (0.2, 0.5)}),
    (metrics.SaCo, metrics.saco, {**SIZE, "groups": 4}),
    (metrics.FidelityPlus, metrics.fidelity_plus, FEW),
    (metrics.FidelityMinus, metrics.fidelity_minus, FEW),
]
KINDS: list[Any] = [kind for kind, _, _ in PAIRS]


@pytest.mark.parametrize(("kind", "function", "given"), PAIRS)
def test_metric_is_the_function_averaged_over_batches(
    kind: type[RemovalMetric], function: Callable[..., Any], given: dict[str, Any]
) -> None:
    model, x = network(), images()
    whole, one, other = (kind(**given) for _ in range(3))
    results = []
    for number, part in enumerate(x.split(5)):
        whole.update(model, part)
        (one, other)[number % 2].update(model, part)
        results.append(function(model, part, LRPEpsilon()(model, part), **given).per_image)
    values = torch.cat(results)
    torch.testing.assert_close(whole.compute().double(), values.mean(), rtol=1e-5, atol=1e-6)
    error = values.std() / len(values) ** 0.5
    torch.testing.assert_close(whole.standard_error().double(), error, rtol=1e-4, atol=1e-6)
    one.merge_state(other)
    torch.testing.assert_close(one.compute(), whole.compute())
    copies = (pickle.loads(pickle.dumps(whole)), copy.deepcopy(whole), whole.clone())
    assert all(torch.equal(copied.compute(), whole.compute()) for copied in copies)


def test_all_of_them_are_in_the_table_and_tell_which_way_is_better() -> None:
    assert [kind for kind in metrics.METRICS if issubclass(kind, RemovalMetric)] == KINDS
    for kind in KINDS:
        assert kind.higher_is_better is kind().measure.higher_is_better


@pytest.mark.parametrize("kind", [metrics.Deletion, metrics.Insertion, metrics.Comprehensiveness])
def test_the_better_heatmap_is_on_the_side_that_is_told(kind: type[RemovalMetric]) -> None:
    """Occlusion by the same replacement knows what a removal does."""
    model, x = network(), images()
    occlusion = Occlusion(region_size=4, replacement=Constant(0.0))
    good, bad = kind(occlusion, **SIZE), kind(lambda *given: -occlusion(*given), **SIZE)
    good.update(model, x)
    bad.update(model, x)
    assert bool(good.compute() > bad.compute()) is kind.higher_is_better


def test_a_collection_keeps_metrics_apart_whose_settings_differ() -> None:
    collection = MetricCollection({
        "del": metrics.Deletion(**SIZE, steps=5), "ins": metrics.Insertion(**SIZE, steps=5),
        "finer": metrics.Deletion(**SIZE, steps=16), "random": metrics.Deletion("random", **SIZE),
    })  # fmt: skip
    collection.update(network(), images(4))
    collection.update(network(), images(4))
    assert len({float(value) for value in collection.compute().values()}) == 4
    one, other = metrics.Deletion(**SIZE, steps=5), metrics.Deletion(**SIZE, steps=4)
    with pytest.raises(ValueError, match="Deletion was measured under other settings"):
        one.merge_state(other)


def test_images_without_a_label_are_left_out() -> None:
    model, x = network(), images(3)
    target = torch.zeros(3, model(x).shape[1], dtype=torch.bool)
    target[0, 2] = target[2, 1] = True
    metric = metrics.SaCo(**SIZE, groups=4)
    metric.update(model, x, target=target)
    alone = metrics.SaCo(**SIZE, groups=4)
    alone.update(model, x[[0, 2]], target=torch.tensor([2, 1]))
    assert int(metric.left_out) == 1
    torch.testing.assert_close(metric.compute(), alone.compute())


def test_texts_are_measured_by_their_words() -> None:
    metric = metrics.Sufficiency("gradient_x_input", shares=(0.5,))
    metric.update(classifier("CNN"), texts((9, 6, 4)))
    assert int(metric.count) == 3
    assert bool(metric.compute().isfinite())


def test_repr_shows_the_settings_that_are_not_as_usual() -> None:
    lrp = "heatmap=LRPEpsilon(epsilon=0.01, relative=False)"
    assert repr(metrics.Deletion(region_size=4)) == f"Deletion({lrp}, region_size=4)"
    found = repr(metrics.FidelityPlus(draws=5, region_size=4, seed=2, replacement="mean"))
    assert found == f"FidelityPlus({lrp}, draws=5, region_size=4, replacement='mean', seed=2)"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"steps": 0}, "steps"), ({"sampled_steps": 3}, "sampled_steps"), ({"heatmap": "lpr"}, "lpr")],
)
def test_settings_that_there_are_not_are_told(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        metrics.Deletion(**wrong)
