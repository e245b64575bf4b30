from __future__ import annotations

import io
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchmetrics import MetricCollection

from aopc_monitor import AOPC
from aopc_monitor.metrics.complexity import HeatmapComplexity
from aopc_monitor.metrics.functional.complexity import file_size, grey_levels, shannon_entropy
from aopc_monitor.utilities.checks import NotFiniteError
from tests.modules import small_network
from tests.processes import run

MEASURES = ["png", "jpeg", "entropy"]


def heatmaps(count: int = 6, size: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(count, size, size, generator=torch.Generator().manual_seed(seed))


def measured(values: Tensor, measure: Any) -> Tensor:
    return shannon_entropy(values) if measure == "entropy" else file_size(values, measure)


def levels_by_hand(heatmap: np.ndarray[Any, Any], signed: bool) -> np.ndarray[Any, Any]:
    largest = np.abs(heatmap).max()
    unit = heatmap / largest if largest > 0 else heatmap
    return np.rint(128 + 127 * unit if signed else 255 * unit).astype(np.uint8)


@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 9), st.integers(-30, 30))
def test_zero_stays_the_middle_grey(seed: int, height: int, width: int, exponent: int) -> None:
    values = torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed))
    values[:, 0, 0] = 0
    levels = grey_levels(values).int()
    assert (levels[:, 0, 0] == 128).all()
    assert (((levels - 128) * values) >= 0).all()
    assert torch.equal(grey_levels(-values).int(), 256 - levels)
    assert torch.equal(grey_levels(values * 2.0**exponent).int(), levels)
    assert levels.min() >= 1
    assert bool((levels.sub(128).abs().amax(dim=(1, 2)) == 127).all()) == (height * width > 1)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(("name", "quality"), [("png", 75), ("jpeg", 75), ("jpeg", 10)])
def test_file_size_is_that_of_the_encoded_picture(name: Any, quality: int, signed: bool) -> None:
    image = pytest.importorskip("PIL.Image")
    values = heatmaps() if signed else heatmaps().abs()
    sizes = file_size(values, name, quality=quality, signed=signed)
    for value, size in zip(values.double().numpy(), sizes.tolist(), strict=True):
        file, settings = io.BytesIO(), {"quality": quality} if name == "jpeg" else {}
        image.fromarray(levels_by_hand(value, signed)).save(file, name, **settings)
        assert size == len(file.getvalue())
        decoded = np.asarray(image.open(file))
        if name == "png":
            assert (decoded == levels_by_hand(value, signed)).all()


@pytest.mark.parametrize("signed", [True, False])
def test_entropy_is_that_of_the_histogram(signed: bool) -> None:
    stats = pytest.importorskip("scipy.stats")
    values = heatmaps() if signed else heatmaps().abs()
    bits = shannon_entropy(values, signed=signed).tolist()
    for value, ours in zip(values.double().numpy(), bits, strict=True):
        _, counts = np.unique(levels_by_hand(value, signed), return_counts=True)
        assert ours == pytest.approx(stats.entropy(counts, base=2), abs=1e-12)


def test_entropy_of_scikit_image() -> None:
    measure = pytest.importorskip("skimage.measure")
    values = heatmaps()
    theirs = [measure.shannon_entropy(levels) for levels in grey_levels(values).numpy()]
    torch.testing.assert_close(shannon_entropy(values), torch.tensor(theirs).double())


def test_entropy_of_all_levels_once_each() -> None:
    every = torch.arange(256.0).view(1, 16, 16)
    assert shannon_entropy(every, signed=False).tolist() == pytest.approx([8.0])
    signed = torch.arange(-127.0, 128).view(1, 15, 17)
    assert shannon_entropy(signed).tolist() == pytest.approx([np.log2(255)])


@pytest.mark.parametrize("measure", MEASURES)
def test_sparse_is_simpler_than_noise_and_flat_is_simplest(measure: str) -> None:
    flat = torch.zeros(1, 64, 64)
    sparse, noise = flat.clone(), heatmaps(1, 64)
    sparse[:, 20:30, 20:30] = noise[:, 20:30, 20:30]
    zero, few, many = (float(measured(values, measure)) for values in (flat, sparse, noise))
    assert zero < few < many
    for constant in (1e-3, -7.0, 1e300):
        alike = torch.full((1, 64, 64), constant, dtype=torch.float64)
        assert float(measured(alike, measure)) <= zero + 8


@pytest.mark.parametrize("measure", MEASURES)
def test_each_heatmap_by_itself(measure: str) -> None:
    values = heatmaps() * torch.logspace(-20, 20, 6)[:, None, None]
    alone = torch.cat([measured(value[None], measure) for value in values])
    assert torch.equal(measured(values, measure), alone)
    assert torch.equal(measured(values.flip(0), measure), alone.flip(0))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.double, torch.int, torch.bool])
def test_every_type_of_number(measure: str, dtype: torch.dtype) -> None:
    values = (heatmaps() * 3).to(dtype)
    assert torch.equal(measured(values, measure), measured(values.double(), measure))


@pytest.mark.parametrize("measure", MEASURES)
def test_odd_tensors(measure: str) -> None:
    assert measured(torch.tensor([[[3.0]]]), measure).shape == (1,)
    assert torch.isfinite(measured(torch.full((1, 1, 9), -1e-320, dtype=torch.double), measure))
    values = heatmaps()
    kept, expected = values.clone(), measured(values, measure)
    assert torch.equal(measured(values.mT.contiguous().mT, measure), expected)
    assert torch.equal(measured(values.clone().requires_grad_(), measure), expected)
    assert not measured(values.clone().requires_grad_(), measure).requires_grad
    with torch.inference_mode():
        assert torch.equal(measured(values.clone(), measure), expected)
    assert torch.equal(values, kept)


@pytest.mark.gpu
@pytest.mark.parametrize("measure", MEASURES)
def test_on_a_gpu(measure: str) -> None:
    values = heatmaps()
    found = measured(values.cuda(), measure)
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), measured(values, measure))


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([[1.0]], TypeError, "heatmaps is list"),
        (torch.zeros(1, 2, 2, dtype=torch.cfloat), TypeError, "heatmaps is torch.complex64"),
        (torch.zeros(2), ValueError, r"heatmaps has shape \(2,\)"),
        (torch.zeros(1, 3, 2, 2), ValueError, "pool the channels"),
        (torch.zeros(1, 3, 4, 2, 2), ValueError, "pool the channels"),
        (torch.zeros(0, 2, 2), ValueError, "at least one"),
        (torch.full((2, 1, 1), torch.nan), NotFiniteError, "in 2 of 2"),
        (torch.full((2, 1, 1), torch.inf), NotFiniteError, "infinite"),
    ],
)
def test_wrong_heatmaps_are_named(values: Any, error: type[Exception], message: str) -> None:
    for measure in MEASURES:
        with pytest.raises(error, match=message):
            measured(values, measure)
        with pytest.raises(error, match=message):
            HeatmapComplexity(measure=measure).update(values)  # type: ignore[arg-type]


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="signed=False, but heatmaps holds negative values"):
        shannon_entropy(heatmaps(), signed=False)
    with pytest.raises(ValueError, match="format='gif' is unknown"):
        file_size(heatmaps(), "gif")  # type: ignore[arg-type]
    for quality in (0, 101, 7.5):
        with pytest.raises(ValueError, match="quality="):
            file_size(heatmaps(), "jpeg", quality=quality)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="quality="):
            HeatmapComplexity(quality=quality)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="measure='bytes' is unknown"):
        HeatmapComplexity(measure="bytes")  # type: ignore[arg-type]


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ModuleNotFoundError, match="pip install pillow"):
        file_size(heatmaps())
    assert shannon_entropy(heatmaps()).shape == (6,)


@pytest.mark.parametrize("measure", MEASURES)
def test_metric_is_the_function_averaged_over_batches(measure: Any) -> None:
    metric, values = HeatmapComplexity(measure=measure), heatmaps(7)
    batch_values = [metric(part) for part in values.split(3)]
    expected = measured(values, measure)
    torch.testing.assert_close(metric.compute().double(), expected.mean(), rtol=1e-6, atol=0)
    sem = expected.std() / 7**0.5
    torch.testing.assert_close(metric.standard_error().double(), sem, rtol=1e-5, atol=0)
    assert float(batch_values[0]) == pytest.approx(float(expected[:3].mean()))
    assert torch.equal(pickle.loads(pickle.dumps(metric)).compute(), metric.compute())
    metric.reset()
    metric.update(values[:1])
    assert torch.isnan(metric.standard_error())
    assert metric.higher_is_better is False


def test_merge_takes_only_the_same_settings() -> None:
    first, second = HeatmapComplexity(measure="entropy"), HeatmapComplexity(measure="entropy")
    values = heatmaps()
    first.update(values[:2])
    first.compute()
    second.update(values[2:])
    first.merge_state(second)
    assert float(first.compute()) == pytest.approx(float(shannon_entropy(values).mean()))
    for other in (HeatmapComplexity(), HeatmapComplexity(measure="entropy", signed=False)):
        with pytest.raises(ValueError, match="measured under other settings"):
            first.merge_state(other)
    with pytest.raises(ValueError, match="HeatmapComplexity"):
        first.merge_state({})


def test_collection_gives_each_metric_what_it_asks_for() -> None:
    aopc, size = AOPC(region_size=4, steps=2, data_range=(0.0, 1.0)), HeatmapComplexity()
    bits = HeatmapComplexity(measure="entropy")
    finer = HeatmapComplexity(measure="entropy", signed=False)
    collection = MetricCollection({"aopc": aopc, "bytes": size, "bits": bits, "finer": finer})
    values = heatmaps().abs()
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    # Flat heatmaps give all entropies the same sums, by which metrics may not be thrown together.
    for each in (torch.ones_like(values), values):
        collection.update(model=small_network().eval(), images=images, heatmaps=each)
    found = {name: float(value) for name, value in collection.compute().items()}
    assert found["bits"] == pytest.approx(float(shannon_entropy(values).mean()) / 2)
    assert found["finer"] > found["bits"]


def test_sums_stay_exact_in_a_parent_of_half_precision() -> None:
    metric = HeatmapComplexity()
    metric.update(heatmaps())
    value = metric.compute()
    nn.ModuleDict({"metric": metric}).half()
    assert metric.total.dtype == torch.float64
    assert torch.equal(metric.compute(), value)


def _share(rank: int, world_size: int) -> tuple[Tensor, Tensor]:
    metric = HeatmapComplexity()
    for part in heatmaps(9).split(2)[rank::world_size]:
        metric.update(part)
    return metric.compute(), metric.standard_error()


def test_two_processes_give_the_value_of_one(tmp_path: Path) -> None:
    for rank in run(_share, 2, tmp_path):
        torch.testing.assert_close(rank, _share(0, 1))
