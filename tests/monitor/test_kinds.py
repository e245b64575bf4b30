"""The monitor on every kind of input, in real trainings."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from aopc_monitor import AOPC, AOPCMonitor
from aopc_monitor.monitor.errors import ConfigurationError
from tests.kinds import SPACES, data_of, loaders_of, module_of
from tests.modules import trainer

PLANS = {
    "series": "16 series of 64, regions of 5 time steps, 6 steps",
    "volumes": "16 volumes of 6 x 12 x 10, regions of 2 x 4 x 3, 13 steps",
    "videos": "16 volumes of 6 x 12 x 10, regions of 2 x 4 x 3, 13 steps",
    "tables": "16 tables of 6, regions of 1 feature, 3 steps",
}


def monitor(**changes: Any) -> AOPCMonitor:
    settings: dict[str, Any] = {"num_images": 16, "sampled_steps": None, "on_error": "raise"}
    return AOPCMonitor(**(settings | changes))


def fit(kind: str, path: Path, *callbacks: Any, **settings: Any) -> pl.Trainer:
    pl.seed_everything(0, verbose=False)
    ckpt_path = settings.pop("ckpt_path", None)
    made = trainer(path, *callbacks, **settings)
    made.fit(module_of(kind), *loaders_of(kind), ckpt_path=ckpt_path)
    return made


@pytest.mark.parametrize("kind", SPACES)
def test_a_training_is_watched_with_figures(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("matplotlib")
    caplog.set_level("INFO", "aopc_monitor")
    watch = monitor(figures=True, data_range=(0.0, 1.0))
    fit(kind, tmp_path, watch)
    assert [record["step"] for record in watch.history] == [0, 3, 6]
    assert all(-1 <= record["aopc/lrp"] <= 1 for record in watch.history)
    assert any(PLANS[kind] in record.message for record in caplog.records)
    files = sorted(path.name for path in (tmp_path / "aopc_figures").iterdir())
    assert len(files) == 9
    assert files[0] == "aopc_figures_heatmaps-00000000.png"


@pytest.mark.parametrize("kind", SPACES)
def test_a_run_goes_on_from_its_checkpoint(kind: str, tmp_path: Path) -> None:
    first, second = monitor(), monitor()
    made = fit(kind, tmp_path, first, max_epochs=1)
    made.save_checkpoint(tmp_path / "one.ckpt")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*AOPCMonitor.*")
        fit(kind, tmp_path, second, ckpt_path=tmp_path / "one.ckpt")
    assert second.history[:2] == first.history
    assert [record["step"] for record in second.history] == [0, 3, 6]


def test_other_inputs_of_a_probe_are_told_after_a_resume(tmp_path: Path) -> None:
    made = fit("series", tmp_path, monitor(), max_epochs=1)
    made.save_checkpoint(tmp_path / "one.ckpt")
    other = monitor(dataloader=data_of("series", seed=5)[0])
    with pytest.warns(UserWarning, match="the images of the probe"):
        fit("series", tmp_path, other, ckpt_path=tmp_path / "one.ckpt")


def test_region_size_is_one_per_dimension(tmp_path: Path) -> None:
    watch = monitor(region_size=(3, 4, 5), steps=2, data_range=(0.0, 1.0))
    made = fit("volumes", tmp_path, watch, max_epochs=1)
    regions = watch.measurements[""].protocol.regions_of(torch.zeros(1, 1, 6, 12, 10))
    assert regions.num_regions == 2 * 3 * 2
    made.save_checkpoint(tmp_path / "one.ckpt")
    kept = torch.load(tmp_path / "one.ckpt", weights_only=True)["callbacks"]
    (state,) = (state for name, state in kept.items() if name.startswith("AOPCMonitor"))
    assert state["settings"][""]["region_size"] == [3, 4, 5]


def halves(inputs: torch.Tensor) -> torch.Tensor:
    """Two regions of an input, left and right, and nothing in the first step."""
    regions = (torch.arange(inputs.shape[-1]) >= inputs.shape[-1] // 2).long()
    regions[0] = -1
    return regions.expand(len(inputs), *inputs.shape[2:])


@pytest.mark.parametrize("kind", ["series", "volumes"])
def test_regions_of_the_users_own(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    shape = SPACES[kind][1:]
    one_map = torch.arange(shape[-1]).expand(shape)
    for regions, steps in ((halves, 2), (one_map, 3)):
        watch = monitor(regions=regions, steps=steps, data_range=(0.0, 1.0), figures=True)
        fit(kind, tmp_path, watch, max_epochs=1)
        assert len(watch.history) == 2


@pytest.mark.parametrize("relevance_is", ["mean", "sum"])
@pytest.mark.parametrize("step_is", ["region", "share"])
def test_steps_and_relevance_of_such_regions(
    relevance_is: Any, step_is: Any, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "regions": torch.bucketize(torch.arange(64), torch.tensor([8, 24])),  # of unequal length
        "region_relevance": relevance_is,
        "step_is": step_is,
        "steps": 2,
        "data_range": (0.0, 1.0),
        "replacement": "mean",
    }
    images = data_of("series")[0][:16]
    watch = monitor(dataloader=images, **settings)
    made = fit("series", tmp_path, watch, max_epochs=1)
    protocol = watch.measurements[""].protocol
    assert (protocol.region_relevance, protocol.step_is) == (relevance_is, step_is)
    metric = AOPC("lrp", sampled_steps=None, **settings)
    metric.update(made.lightning_module, images)
    assert watch.history[-1]["aopc/lrp"] == pytest.approx(float(metric.compute()), abs=1e-6)


def test_a_map_for_each_of_some_images_is_refused(tmp_path: Path) -> None:
    each = torch.arange(64).expand(16, 64)
    with pytest.raises(ConfigurationError, match=r"regions has shape \(16, 64\), a map for each"):
        fit("series", tmp_path, monitor(regions=each))
