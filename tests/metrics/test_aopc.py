from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from aopc_monitor import AOPC, Execution, area_over_perturbation_curve, estimate_aopc
from aopc_monitor.heatmaps import LRPEpsilon
from tests.modules import small_network
from tests.processes import run

SETTINGS: dict[str, Any] = {"region_size": 4, "steps": 6, "data_range": (0.0, 1.0)}


def network() -> nn.Module:
    torch.manual_seed(0)
    return small_network().eval()


def images(count: int = 12) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def metric(**changes: Any) -> AOPC:
    return AOPC(**{**SETTINGS, **changes})


def test_images_of_a_subclass_are_plain_ones() -> None:
    class Kept(Tensor):
        pass

    model, x = network(), images()
    kept, plain = metric(), metric()
    kept.update(model, x.as_subclass(Kept))
    plain.update(model, x)
    assert torch.equal(kept.compute(), plain.compute())
    assert type(kept.compute()) is Tensor
    estimates = [estimate_aopc(model, [of], **SETTINGS) for of in (x.as_subclass(Kept), x)]
    assert estimates[0].areas.keys() == estimates[1].areas.keys()
    assert estimates[0].aopc == estimates[1].aopc


def test_metric_is_the_function_averaged_over_batches() -> None:
    model, x = network(), images()
    whole = metric(replacement="mean")
    for part in x.split(5):
        whole.update(model, part)
    heatmaps = LRPEpsilon()(model, x)
    result = area_over_perturbation_curve(model, x, heatmaps, replacement="mean", **SETTINGS)
    torch.testing.assert_close(whole.compute().double(), result.mean, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(whole.standard_error().double(), result.sem, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(whole.curve().double(), result.curve, rtol=1e-5, atol=1e-7)
    errors = result.curves.std(dim=0) / len(x) ** 0.5
    torch.testing.assert_close(whole.curve_standard_error().double(), errors, rtol=1e-3, atol=1e-6)


def test_given_heatmaps_are_used() -> None:
    model, x = network(), images()
    given, made = metric(), metric(heatmap=LRPEpsilon(0.01))
    given.update(model, x, LRPEpsilon(0.01)(model, x))
    made.update(model, x)
    assert torch.equal(given.compute(), made.compute())


def test_same_images_get_the_same_noise_again() -> None:
    model, first = network(), metric()
    first.update(model, images())
    first.update(model, images() / 2)
    value = first.compute()
    first.reset()
    first.update(model, images() / 2)
    first.update(model, images())
    torch.testing.assert_close(first.compute(), value)
    other = metric(seed=1)
    other.update(model, images())
    assert not torch.equal(other.compute(), value)


def test_forward_gives_the_batch_and_accumulates() -> None:
    model, x = network(), images()
    by_forward, by_update = metric(), metric()
    batch_values = [by_forward(model, part) for part in x.split(4)]
    for part, value in zip(x.split(4), batch_values, strict=True):
        alone = metric()
        alone.update(model, part)
        assert torch.equal(value, alone.compute())
        by_update.update(model, part)
    torch.testing.assert_close(by_forward.compute(), by_update.compute())


def test_merge_pickle_deepcopy_clone_and_hash() -> None:
    model, x = network(), images()
    first, second, both = metric(), metric(), metric()
    first.update(model, x[:5])
    second.update(model, x[5:])
    for part in (x[:5], x[5:]):
        both.update(model, part)
    first.merge_state(second)
    torch.testing.assert_close(first.compute(), both.compute())
    for copied in (pickle.loads(pickle.dumps(both)), copy.deepcopy(both), both.clone()):
        assert torch.equal(copied.compute(), both.compute())
        copied.update(model, x)
    assert hash(metric()) != hash(metric())


def test_metrics_of_different_settings_do_not_merge() -> None:
    one = metric()
    for other in (metric(region_size=2), metric(heatmap="random"), metric(seed=1)):
        with pytest.raises(ValueError, match="measured under other settings"):
            one.merge_state(other)


@pytest.mark.parametrize(
    ("execution", "fingerprint"),
    [
        (None, [229, 18, 76, 104, 11, 59, 108, 5]),
        (Execution(16, autocast=torch.bfloat16), [254, 236, 145, 41, 58, 180, 237, 96]),
        (Execution(backend="compile"), [229, 18, 76, 104, 11, 59, 108, 5]),
    ],
)
def test_sums_saved_before_there_were_back_ends_add_up(
    execution: Execution | None, fingerprint: list[int]
) -> None:
    """What version 0.1.0 has saved for these settings, where `compiled=` was one of them."""
    assert metric(heatmap="lrp", steps=8, execution=execution).settings.tolist() == fingerprint


def test_random_order_follows_the_seed() -> None:
    values = []
    for seed in range(3):
        one = metric(heatmap="random", seed=seed, replacement="mean")
        one.update(network(), images())
        values.append(float(one.compute()))
    assert len(set(values)) == 3


def test_collection_does_not_merge_different_metrics() -> None:
    """An all-zero network gives every AOPC the same first sums."""
    silent = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))
    nn.init.zeros_(silent[1].weight)
    nn.init.zeros_(silent[1].bias)
    collection = MetricCollection(
        {
            "lrp": metric(),
            "random": metric(heatmap="random"),
            "lerf": metric(order="lerf"),
            "again": metric(),
        }
    )
    collection.update(silent, images())
    assert sorted(map(sorted, collection.compute_groups.values())) == [
        ["again", "lrp"], ["lerf"], ["random"],
    ]  # fmt: skip
    model = network()
    collection.update(model, images())
    values = collection.compute()
    assert len({float(v) for v in values.values()}) == 3


def test_inference_mode_before_and_after() -> None:
    model, x, mixed, plain = network(), images(), metric(), metric()
    with torch.inference_mode():
        mixed.update(model, x)
        mixed.reset()
        mixed.update(model, x[:6].clone())
    mixed.update(model, x[6:])
    for part in (x[:6], x[6:]):
        plain.update(model, part)
    assert torch.equal(mixed.compute(), plain.compute())


def test_precision_of_the_sums_survives_a_parent() -> None:
    model, one = network(), metric()
    one.update(model, images())
    value = one.compute()
    parent = nn.ModuleDict({"metric": one}).bfloat16()
    assert one.total.dtype == torch.float64
    assert torch.equal(one.compute(), value)
    parent.to("meta")
    assert one.total.device.type == "meta"


def test_half_precision_models() -> None:
    one = metric(data_range=(0.0, 1.0))
    one.update(network().bfloat16(), images().bfloat16())
    assert torch.isfinite(one.compute())


def test_single_image_has_no_standard_error() -> None:
    one = metric()
    one.update(network(), images(1))
    assert torch.isnan(one.standard_error())


def test_plot_returns_figure_and_axis() -> None:
    pytest.importorskip("matplotlib").use("Agg")
    one = metric()
    one.update(network(), images())
    figure, axis = one.plot()
    assert axis in figure.axes
    assert one.plot([one.compute(), one.compute()])


def test_direction_is_declared() -> None:
    assert AOPC.higher_is_better is True
    assert AOPC.full_state_update is False
    assert AOPC.is_differentiable is False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heatmap": "gradcam"}, "heatmap='gradcam' is unknown"),
        ({"order": "best"}, "order='best' is unknown"),
        ({"data_range": None, "replacement": "uniform"}, "data_range is missing"),
        ({"data_range": (1.0, 1.0)}, "low < high"),
        ({"steps": 0}, "steps=0"),
    ],
)
def test_wrong_arguments_are_named_in_the_constructor(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metric(**changes)


def test_failed_update_leaves_the_sums() -> None:
    model, one = network(), metric()
    one.update(model, images())
    value = one.compute()
    with pytest.raises(ValueError, match="heatmaps has shape"):
        one.update(model, images(), torch.zeros(2, 2))
    one._computed = None
    assert torch.equal(one.compute(), value)
    assert int(one.count) == 12


def _share(rank: int, world_size: int, replacement: str) -> tuple[Tensor, ...]:
    one = metric(replacement=replacement)
    for part in images().split(3)[rank::world_size]:
        one.update(network(), part)
    return one.compute(), one.standard_error(), one.curve(), one.curve_standard_error()


@pytest.mark.parametrize("replacement", ["mean", "uniform"])
def test_two_processes_give_the_value_of_one(tmp_path: Path, replacement: str) -> None:
    alone = _share(0, 1, replacement)
    for rank in run(_share, 2, tmp_path, replacement):
        # The noise is tied to the images, so that it too is the same on two processes.
        for ours, theirs in zip(rank, alone, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
