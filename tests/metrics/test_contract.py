"""What torchmetrics promises of every metric, checked on AOPC; see also `test_metric`."""

from __future__ import annotations

import copy
import pickle
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.wrappers import MetricTracker, Running

from aopc_monitor import (
    AOPC,
    Execution,
    SymmetricRelevanceGain,
    area_over_perturbation_curve,
    estimate_aopc,
)
from aopc_monitor.heatmaps import LRPEpsilon
from aopc_monitor.metrics import HeatmapComplexity, SensitivityN
from tests.metrics.test_aopc import SETTINGS, images, metric, network
from tests.processes import run


def updated(*parts: Tensor, **changes: Any) -> AOPC:
    made = metric(**changes)
    for part in parts:
        made.update(network(), part)
    return made


def seen(made: AOPC) -> list[Tensor]:
    return [made.compute(), made.standard_error(), made.curve()]


def states(made: AOPC) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in made.metric_state.items()}  # type: ignore[union-attr]


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys() == metric().metric_state.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [v.dtype for v in one.values()] == [v.dtype for v in other.values()]


def test_states_are_tensors_of_fixed_shape_that_are_added_up() -> None:
    made = metric()
    shapes = {name: value.shape for name, value in states(made).items()}
    made.update(network(), images())
    assert {name: value.shape for name, value in states(made).items()} == shapes
    for name, reduce in made._reductions.items():
        expected = [2.0, 5.0] if name == "settings" else [3.0, 8.0]
        assert reduce(torch.tensor([[1.0, 5.0], [2.0, 3.0]])).tolist() == expected  # type: ignore[operator, misc]
    assert made.state_dict() == {}
    assert not list(made.parameters())


@pytest.mark.parametrize("name", ["higher_is_better", "is_differentiable", "full_state_update"])
def test_constants_cannot_be_reassigned(name: str) -> None:
    with pytest.raises(RuntimeError, match=f"Can't change const `{name}`"):
        setattr(metric(), name, True)


def test_metrics_are_hashable_and_all_different() -> None:
    one, other = metric(), metric()
    assert len({one, other, one}) == 2
    before = hash(one)
    one.update(network(), images())
    assert hash(one) != before
    assert nn.ModuleList([one, one])[0] is one


@pytest.mark.parametrize("already", [[], [images() / 2]], ids=["new", "updated"])
def test_copies_are_complete_and_independent(already: list[Tensor]) -> None:
    made = updated(*already)
    kept = states(made)
    for copied in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made), made.clone()):
        assert_same(states(copied), kept)
        assert copied.update_count == made.update_count
        copied.update(network(), images())
        assert_same(states(made), kept)
        assert torch.equal(copied.compute(), updated(*already, images()).compute())


def test_reset_gives_the_initial_state_also_in_inference_mode() -> None:
    made = updated(images())
    with torch.inference_mode():
        made.reset()
    assert_same(states(made), states(metric()))
    assert not made.update_called
    made.update(network(), images())
    assert torch.equal(made.compute(), updated(images()).compute())


def test_compute_warns_before_the_first_update_and_keeps_its_value_until_the_next() -> None:
    made = metric()
    with pytest.warns(UserWarning, match="compute.* was called before the ``update``"):
        assert torch.isnan(made.compute())
    value = made(network(), images())  # the value of the batch, here of all there is
    assert torch.equal(made.compute(), value)
    assert made.compute() is made.compute()
    made.update(network(), images() / 2)
    assert made.update_count == 2
    assert made.compute() != value


SCORES: list[Any] = ["probability", "logit", lambda outputs, target: outputs[:, 0] ** 2]


@pytest.mark.parametrize(
    ("order", "replacement", "score"),
    list(product(["morf", "lerf", "random"], ["mean", "blur", "constant", "uniform"], SCORES)),
)
def test_class_is_the_function(order: Any, replacement: str, score: Any) -> None:
    model, parts = network(), images().split(5)
    settings = {**SETTINGS, "order": order, "replacement": replacement, "score": score}
    made = updated(*parts, **settings)
    results = [
        area_over_perturbation_curve(model, part, LRPEpsilon()(model, part), **settings)
        for part in parts
    ]
    area = torch.cat([result.per_image for result in results])
    curve = torch.cat([result.curves for result in results]).mean(dim=0)
    torch.testing.assert_close(made.compute().double(), area.mean(), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(made.curve().double(), curve, rtol=1e-5, atol=1e-7)


def test_sums_survive_in_a_checkpoint_if_asked_to() -> None:
    one, other = nn.ModuleDict({"aopc": updated(images())}), nn.ModuleDict({"aopc": metric()})
    for parent in (one, other):
        parent["aopc"].persistent(True)
    assert set(one.state_dict()) == {f"aopc.{name}" for name in metric().metric_state}
    other.load_state_dict(one.state_dict())
    other["aopc"].update(network(), images() / 2)
    assert torch.equal(other["aopc"].compute(), updated(images(), images() / 2).compute())


def test_states_of_a_metric_and_of_a_dict_merge() -> None:
    first, second = images().split(6)
    by_metric, by_dict = updated(first), updated(first)
    by_metric.merge_state(updated(second))
    by_dict.merge_state(dict(updated(second).metric_state))
    for merged in (by_metric, by_dict):
        torch.testing.assert_close(seen(merged), seen(updated(first, second)))
    with pytest.raises(ValueError, match="other settings"):
        by_dict.merge_state({})


def test_merged_value_is_not_the_one_computed_before() -> None:
    first, second = images().split(6)
    made = updated(first)
    made.compute()
    made.merge_state(updated(second))
    torch.testing.assert_close(made.compute(), updated(first, second).compute())


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.double])
def test_casts_leave_the_sums_and_the_value_alone(dtype: torch.dtype) -> None:
    made = updated(images())
    for cast in (made.half, made.bfloat16, made.double):
        cast()
    nn.ModuleDict({"aopc": made}).to(dtype)
    made.set_dtype(dtype)
    assert_same(states(made), states(updated(images())))
    made.update(network(), images() / 2)
    assert torch.equal(made.compute(), updated(images(), images() / 2).compute())
    assert made.compute().dtype == made.curve().dtype == torch.float32


def test_collection_names_computes_and_resets() -> None:
    parts = {"lrp": metric(), "random": metric(heatmap="random")}
    both = MetricCollection(parts, prefix="val/", postfix="_aopc")
    batch = both(network(), images())
    assert set(batch) == set(both.compute()) == {"val/lrp_aopc", "val/random_aopc"}
    expected = updated(images())
    assert torch.equal(both.compute()["val/lrp_aopc"], expected.compute())
    assert torch.equal(both["val/lrp_aopc"].curve(), expected.curve())
    assert set(both.clone(prefix="test/").compute()) == {"test/lrp_aopc", "test/random_aopc"}
    both.reset()
    assert not any(made.update_called for made in both.values())


def test_tracker_takes_the_largest_for_the_best() -> None:
    tracker = MetricTracker(metric(replacement="mean"), maximize=None)
    tracked = []
    for scale in (0.2, 1.0, 0.5):
        tracker.increment()
        tracker.update(network(), images() * scale)
        tracked.append(float(tracker.compute()))
    best: Any = tracker.best_metric(return_step=True)
    assert best[0] == pytest.approx(max(tracked))
    assert best[1] == tracked.index(max(tracked))
    assert tracker.compute_all().tolist() == pytest.approx(tracked)


def test_difference_of_two_metrics_is_a_metric() -> None:
    gain = metric() - metric(heatmap="random")
    expected = updated(images()).compute() - updated(images(), heatmap="random").compute()
    assert torch.equal(gain(network(), images()), expected)
    assert torch.equal(gain.compute(), expected)


def test_average_over_the_last_batches() -> None:
    window, parts = Running(metric(), window=2), images().split(4)
    for part in parts:
        window(network(), part)
    torch.testing.assert_close(window.compute(), updated(*parts[1:]).compute())


CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "unequal numbers of batches": (3, {}),
    "a process without a batch": (4, {"compute_on_cpu": True}),
    "batch values over processes": (2, {"dist_sync_on_step": True}),
    "processes on their own": (3, {"sync_on_compute": False}),
}


def shares(of_first: int) -> list[tuple[Tensor, ...]]:
    batches = images().split(3)
    return [batches[:of_first], batches[of_first:]]


def _share(rank: int, world_size: int) -> dict[str, tuple[list[Tensor], list[Tensor], int]]:
    found = {}
    for case, (of_first, changes) in CASES.items():
        made = metric(**changes)
        by_batch = [made(network(), batch) for batch in shares(of_first)[rank]]
        found[case] = (by_batch, seen(made), int(made.count))
    return found


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run(_share, 2, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", CASES)
def test_two_processes(two_processes: list[dict[str, Any]], case: str) -> None:
    of_first, changes = CASES[case]
    first, second = shares(of_first)
    for rank, own in zip(two_processes, (first, second), strict=True):
        by_batch, values, count = rank[case]
        alone = updated(*(own if "sync_on_compute" in changes else first + second))
        torch.testing.assert_close(values, seen(alone))
        assert count == 3 * len(own)
        # Each batch alone, or with the batch that the other process looks at meanwhile.
        looked_at = zip(first, second, strict=True) if "dist_sync_on_step" in changes else zip(own)
        torch.testing.assert_close(by_batch, [updated(*parts).compute() for parts in looked_at])


def test_repr_shows_the_settings_that_are_not_as_usual() -> None:
    regions: dict[str, Any] = {"region_size": 4, "steps": 8, "data_range": (0.0, 1.0)}
    lrp = "heatmap=LRPEpsilon(epsilon=0.01, relative=False)"
    told = "region_size=4, steps=8, data_range=(0.0, 1.0)"
    assert repr(AOPC(**regions)) == f"AOPC({lrp}, {told})"
    assert (
        repr(AOPC(**regions, order="lerf", seed=3)) == f"AOPC({lrp}, {told}, order='lerf', seed=3)"
    )
    assert repr(SymmetricRelevanceGain(**regions)) == f"SymmetricRelevanceGain({lrp}, {told})"
    found = repr(SensitivityN(n=2, region_size=3, seed=1))
    assert found == f"SensitivityN({lrp}, n=(2,), region_size=3, seed=1)"
    assert repr(HeatmapComplexity(quality=50)) == "HeatmapComplexity(quality=50)"
    chunks = AOPC(**regions, execution=Execution(chunk_size=8))
    assert "execution=Execution(chunk_size=8" in repr(chunks)


@pytest.mark.parametrize(
    "call",
    [
        lambda given: AOPC(region_size=4, steps=8, data_range=(0.0, 1.0))(*given),
        lambda given: SensitivityN(n=2).update(*given),
        lambda given: estimate_aopc(*given, region_size=4, steps=8, data_range=(0.0, 1.0)),
    ],
)
def test_predictions_and_labels_are_told_apart_from_a_network_and_images(call: Any) -> None:
    with pytest.raises(
        TypeError, match=r"model is a Tensor; .* give \(model, images\) and not pred"
    ):
        call((torch.rand(3, 4), torch.tensor([0, 1, 2])))
