from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from aopc_monitor.heatmaps import LRPEpsilon
from aopc_monitor.metrics.sensitivity_n import SensitivityN
from tests.metrics.functional.test_sensitivity_n import (
    HEATMAPS,
    IMAGES,
    SETTINGS,
    OfTraining,
    found,
    leaving_no_trace,
    network,
    random,
)
from tests.processes import run


def metric(**changes: Any) -> SensitivityN:
    return SensitivityN(**{**SETTINGS, **changes})


@pytest.mark.filterwarnings("ignore:sensitivity-n of 1 of 2 images")
def test_metric_is_the_function_averaged_over_batches() -> None:
    model, whole, images = network(), metric(), IMAGES.clone()
    images[3] = 0
    results = []
    for part in images.split(2):
        whole.update(model, part)
        results.append(found(model, part, LRPEpsilon()(model, part), generator=None))
    values = torch.cat([result.per_image for result in results])[:3]
    curves = torch.cat([result.correlations for result in results])[:3]
    torch.testing.assert_close(whole.compute().double(), values.mean(), rtol=1e-5, atol=1e-6)
    sem = values.std() / 3**0.5
    torch.testing.assert_close(whole.standard_error().double(), sem, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(whole.curve().double(), curves.mean(0), rtol=1e-5, atol=1e-6)
    assert whole.undefined().tolist() == [1, 1, 1]
    assert whole.ignored().tolist() == [0, 0, 0]
    whole.reset()
    assert whole.undefined().tolist() == [0, 0, 0]


def test_metric_merges_copies_and_joins_a_collection() -> None:
    model, first, second, both = network(), metric(), metric(), metric()
    first.update(model, IMAGES[:2])
    second.update(model, IMAGES[2:], HEATMAPS[2:])
    both(model, IMAGES[:2])
    both(model, IMAGES[2:], HEATMAPS[2:])
    first.merge_state(second)
    torch.testing.assert_close(first.compute(), both.compute())
    torch.testing.assert_close(first.curve(), both.curve())
    assert torch.equal(pickle.loads(pickle.dumps(both)).compute(), both.compute())
    large = random(3, 32, 32)
    changes: list[dict[str, Any]] = [
        {"seed": 1}, {"n": 5}, {"subsets": 21}, {"score": "probability"}, {"heatmap": "random"},
        {"baseline": large}, {"baseline": "mean"},
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(ValueError, match="SensitivityN was measured under other settings"):
            first.merge_state(metric(**change))
    large_again = large.clone()
    large_again[1, 16, 16] += 1
    with pytest.raises(ValueError, match="other settings"):
        metric(baseline=large).merge_state(metric(baseline=large_again))
    collection = MetricCollection({"lrp": metric(), "random": metric(heatmap="random")})
    assert set(collection(model, IMAGES)) == {"lrp", "random"}
    assert SensitivityN.higher_is_better is True


def test_wrapped_models_are_looked_through_for_heatmaps_too() -> None:
    wrapped, bare = metric(), metric()
    wrapped.update(OfTraining(network()), IMAGES)
    bare.update(network(), IMAGES)
    assert torch.equal(wrapped.compute(), bare.compute())
    assert torch.equal(wrapped.curve(), bare.curve())


def test_no_trace_is_left() -> None:
    with leaving_no_trace() as (model, images):
        metric().update(model, images)


def _share(rank: int, world_size: int) -> tuple[Tensor, ...]:
    one = metric()
    for part in random(8, 3, 16, 16).split(2)[rank::world_size]:
        one.update(network(), part)
    return one.compute(), one.standard_error(), one.curve(), one.undefined()


def test_two_processes_give_the_value_of_one(tmp_path: Path) -> None:
    for rank in run(_share, 2, tmp_path):
        torch.testing.assert_close(rank, _share(0, 1), rtol=1e-6, atol=1e-9)
