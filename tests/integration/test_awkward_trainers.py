"""Trainers, loaders and processes that are not as usual, and settings that cannot work."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy, DeepSpeedStrategy, FSDPStrategy
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, random_split

from aopc_monitor import AOPCMonitor
from aopc_monitor.monitor.trainers import check_strategy
from tests.modules import Classifier, Quadrants, loaders, trainer

SETTINGS: dict[str, Any] = {
    "num_images": 20,
    "region_size": 4,
    "steps": 4,
    "data_range": (0.0, 1.0),
    "on_error": "raise",
}


def monitor(**changes: Any) -> AOPCMonitor:
    return AOPCMonitor(**{**SETTINGS, **changes})


def fit(
    path: Path, *callbacks: Any, kind: Any = Classifier, data: Any = None, **kwargs: Any
) -> Any:
    """The trainer of two epochs of six steps."""
    pl.seed_everything(0, verbose=False)
    made = trainer(path, *callbacks, **kwargs)
    made.fit(kind(), *(loaders() if data is None else data))
    return made


def weights(module: Any) -> list[Tensor]:
    return [value.clone() for value in module.state_dict().values()]


def steps(watch: AOPCMonitor) -> list[float]:
    return [record["step"] for record in watch.history]


# When validations are due


@pytest.mark.parametrize("interval", [timedelta(milliseconds=1), "00:00:00:01"])
def test_validations_by_the_clock_leave_out_the_share(
    interval: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        trainer(tmp_path, val_check_interval=interval)
    except Exception as error:  # of several kinds in several versions
        pytest.skip(f"this Lightning has no validations by the clock: {error}")
    watch = monitor(every_n_steps=5)
    fit(tmp_path, watch, val_check_interval=interval)
    assert set(steps(watch)) >= {0, 5, 10, 12}
    printed = capsys.readouterr().out
    assert "forwards an evaluation" in printed
    assert "of the training time" not in printed


class OwnLoader(Classifier):
    """Its hook leaves something on the module, and draws from the global generators."""

    def train_dataloader(self) -> Any:
        return loaders()[0]

    def val_dataloader(self) -> Any:
        data = Quadrants(40)
        self.class_names = ["a", "b", "c", "d"]
        self.part, _ = random_split(data, [20, 20])
        return DataLoader(self.part, batch_size=8)

    def on_validation_epoch_start(self) -> None:
        assert len(self.class_names) == 4
        self.validated = list(self.part.indices)


def test_a_hook_that_makes_the_loader_is_called_as_without_the_monitor(tmp_path: Path) -> None:
    """The monitor needs the loader from the start, Lightning after the second epoch."""
    settings: dict[str, Any] = {"check_val_every_n_epoch": 2, "num_sanity_val_steps": 0}
    found = []
    for watches in ([], [monitor(every_n_steps=2, at_validation=False)]):
        made = fit(tmp_path, *watches, kind=OwnLoader, data=(), max_epochs=3, **settings)
        module = made.lightning_module
        found.append((module.validated, weights(module)))
    (without, expected), (validated, with_monitor) = found
    assert validated == without
    assert all(map(torch.equal, with_monitor, expected))
    assert len(watches[0].history) == 10


class RandomStream(IterableDataset[Any]):
    """Other images each time, from the generator of the worker."""

    def __iter__(self) -> Iterator[Any]:
        for _ in range(24):
            yield torch.rand(3, 16, 16), int(torch.randint(4, ()))


class KeepsOutputs(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[float] = []

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.outputs.append(float(self(batch[0]).sum()))


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_of_a_stream_go_on_as_without_the_monitor(persistent: bool, tmp_path: Path) -> None:
    workers: dict[str, Any] = {"num_workers": 1, "persistent_workers": persistent}
    found = []
    for watches in ([], [monitor(every_n_steps=4)]):
        stream: Any = DataLoader(RandomStream(), batch_size=8, **workers)
        made = fit(tmp_path, *watches, kind=KeepsOutputs, data=(loaders()[0], stream))
        logged = float(made.callback_metrics["accuracy/val"])
        found.append((made.lightning_module.outputs, logged, weights(made.lightning_module)))
    assert found[1][:2] == found[0][:2]
    assert len(set(found[0][0])) == 8
    assert all(map(torch.equal, found[1][2], found[0][2]))


def test_a_combined_loader_keeps_its_labels(tmp_path: Path) -> None:
    combined = CombinedLoader({"a": loaders()[1], "b": loaders()[1]}, "sequential")
    combined_watch, watch = monitor(dataloader=combined), monitor(dataloader=loaders()[1])
    for one in (combined_watch, watch):
        made = fit(tmp_path, one, max_epochs=1)
        assert "aopc/accuracy" in made.callback_metrics
    assert combined_watch.measurements[""].settings() == watch.measurements[""].settings()


# What cannot work, and what can


def test_a_strategy_derived_from_one_that_shards_is_refused() -> None:
    class Mine(FSDPStrategy):
        pass

    with pytest.raises(ValueError, match="cannot look at a model under FSDPStrategy"):
        check_strategy(SimpleNamespace(strategy=object.__new__(Mine)))
    check_strategy(SimpleNamespace(strategy=object.__new__(DDPStrategy)))


@pytest.mark.parametrize(("stage", "is_refused"), [(0, False), (1, False), (2, False), (3, True)])
def test_deepspeed_is_refused_where_it_takes_parameters_apart(stage: int, is_refused: bool) -> None:
    strategy = object.__new__(DeepSpeedStrategy)
    strategy.config = {"zero_optimization": {"stage": stage}}
    told = pytest.raises(ValueError, match=r"under DeepSpeedStrategy\(stage=3\).*\(stage=2\)")
    with told if is_refused else nullcontext():
        check_strategy(SimpleNamespace(strategy=strategy))


def test_a_limit_that_keeps_the_loader_away_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="limit_val_batches=0"):
        fit(tmp_path, monitor(), limit_val_batches=0)


def test_a_range_is_not_read_off_grey_and_coloured_images(tmp_path: Path) -> None:
    grey = {"grey": torch.rand(8, 1, 16, 16), "coloured": torch.rand(8, 3, 16, 16)}
    with pytest.raises(ValueError, match=r"data_range .* 1 and 3 channels: give data_range="):
        fit(tmp_path, monitor(dataloader=grey, data_range=None))


# Warnings


def nothing(model: Any, images: Tensor, target: Tensor) -> Tensor:
    return torch.full_like(images[:, 0], float("nan"))


def test_where_warnings_are_errors_a_failure_is_printed_and_training_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="AOPCMonitor")
        made = fit(tmp_path, monitor(heatmap=nothing, on_error="warn"))
    assert made.global_step == 12
    printed = capsys.readouterr().err
    assert "AOPCMonitor: could not evaluate at step 0; training goes on" in printed
    assert "UserWarning" not in printed  # not a warning with its place in the code


def test_a_filter_silences_the_monitor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("ignore", message="AOPCMonitor")
        fit(tmp_path, monitor(heatmap=nothing, on_error="warn"))
    assert not any("AOPCMonitor" in str(warning.message) for warning in caught)
    assert "could not evaluate" not in capsys.readouterr().err


# Two processes


class ChangesOnOneProcess(pl.Callback):
    """As an averaging of weights that only the first process does."""

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            self.kept = weights(pl_module)
            for parameter in pl_module.parameters():
                parameter.data.mul_(1.5)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            for value, kept in zip(pl_module.state_dict().values(), self.kept, strict=True):
                value.copy_(kept)


class Talks(Classifier):
    """Its forward asks the other process for something."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + 0 * self.all_gather(images.detach().mean()).sum()


def fit_by_two(path: Path, *callbacks: Any, kind: Any = Classifier, **changes: Any) -> None:
    """Three blocks of images. Who waits for the other in vain ends with an error."""
    strategy = DDPStrategy(
        start_method="spawn", process_group_backend="gloo", timeout=timedelta(seconds=20)
    )
    watch = monitor(**{"heatmap": "sensitivity_l2", "every_n_steps": 3, **changes})
    settings: dict[str, Any] = {"devices": 2, "strategy": strategy, "max_epochs": 1}
    made = fit(path, *callbacks, watch, kind=kind, **settings)
    assert made.state.finished
    assert {"aopc/sensitivity_l2", "aopc/accuracy"} <= set(made.callback_metrics)
    assert "aopc/failures" not in made.callback_metrics


@pytest.mark.usefixtures("quick_processes")
def test_weights_that_only_one_process_changes_hang_nobody(tmp_path: Path) -> None:
    fit_by_two(tmp_path, ChangesOnOneProcess(), num_images=48)


@pytest.mark.usefixtures("quick_processes")
def test_processes_that_talk_to_each_other_in_a_forward_hang_nobody(tmp_path: Path) -> None:
    fit_by_two(tmp_path, kind=Talks, num_images=48)
