from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from aopc_monitor import AOPCMonitor
from aopc_monitor.metrics import average_thresholded_confidence
from recipes.shared.training.beside import ACCURACY, LabelFreeRivals, own_batches
from tests.modules import Classifier, Quadrants, loaders, trainer

KEYS = {
    ACCURACY, "rivals/confidence", "rivals/negative_entropy", "rivals/atc_confidence",
    "rivals/atc_entropy", "step",
}  # fmt: skip


def observers(with_source: bool = True) -> tuple[AOPCMonitor, LabelFreeRivals]:
    monitor = AOPCMonitor(
        every_n_steps=4, at_validation=False, num_images=8, region_size=8, steps=2,
        data_range=(0.0, 1.0), on_error="raise",
    )  # fmt: skip
    # 37 and 21 images: the last batch is smaller, and processes get unequal numbers of images.
    test = DataLoader(Quadrants(37, seed=2), batch_size=8)
    source = DataLoader(Quadrants(21, seed=3), batch_size=8) if with_source else None
    return monitor, LabelFreeRivals(monitor, test, source)


class Still(Classifier):
    """Keeps its weights, whose predictions are neither all right nor all wrong."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(path: Path, *callbacks: Any, module: Any = None, **kwargs: Any) -> Any:
    pl.seed_everything(0, verbose=False)
    module = module or Classifier()
    ckpt_path = kwargs.pop("ckpt_path", None)
    trainer(path, *callbacks, **kwargs).fit(module, *loaders(), ckpt_path=ckpt_path)
    return module


def test_one_point_per_look_and_the_last_is_that_of_the_trained_network(tmp_path: Path) -> None:
    monitor, beside = observers()
    module = fit(tmp_path, monitor, beside, max_epochs=2).eval()
    assert [point["step"] for point in beside.points] == [0, 4, 8, 12]
    assert [point["step"] for point in monitor.history] == [0, 4, 8, 12]
    assert all(set(point) == KEYS for point in beside.points)
    scores, correct = {}, {}
    for name, data in (("target", Quadrants(37, seed=2)), ("source", Quadrants(21, seed=3))):
        with torch.no_grad():
            probabilities = module(data.images).softmax(dim=1)
        scores[name] = probabilities.amax(dim=1)
        correct[name] = probabilities.argmax(dim=1) == data.labels
    last = beside.points[-1]
    assert last[ACCURACY] == pytest.approx(float(correct["target"].float().mean()))
    assert last["rivals/confidence"] == pytest.approx(float(scores["target"].mean()), abs=1e-6)
    assert last["rivals/atc_confidence"] == pytest.approx(
        average_thresholded_confidence(scores["source"], correct["source"], scores["target"])
    )


def test_training_is_what_it_is_without_them(tmp_path: Path) -> None:
    without = fit(tmp_path).state_dict()
    watched = fit(tmp_path, *observers()).state_dict()
    assert all(torch.equal(watched[name], without[name]) for name in without)


def test_without_a_source_there_is_no_thresholded_confidence(tmp_path: Path) -> None:
    monitor, beside = observers(with_source=False)
    fit(tmp_path, monitor, beside, max_epochs=1)
    assert set(beside.points[-1]) == KEYS - {"rivals/atc_confidence", "rivals/atc_entropy"}


def test_a_resumed_training_goes_on_with_its_points(tmp_path: Path) -> None:
    monitor, beside = observers()
    fit(tmp_path, monitor, beside, max_epochs=2)
    save = pl.callbacks.ModelCheckpoint(tmp_path, filename="first")
    fit(tmp_path, *observers(), save, max_epochs=1, enable_checkpointing=True)
    again, resumed = observers()
    fit(tmp_path, again, resumed, max_epochs=2, ckpt_path=tmp_path / "first.ckpt")
    assert [point["step"] for point in resumed.points] == [p["step"] for p in again.history]
    # The end of the first epoch was looked at too.
    assert [point["step"] for point in resumed.points] == [0, 4, 8, 12]
    assert resumed.points[-1].keys() == beside.points[-1].keys()
    assert resumed.points[1] == beside.points[1]


def test_a_new_training_begins_without_points(tmp_path: Path) -> None:
    monitor, beside = observers()
    for _ in range(2):
        fit(tmp_path, monitor, beside, max_epochs=1)
    assert [point["step"] for point in beside.points] == [0, 4, 6]


def test_each_process_reads_its_own_images_only() -> None:
    class Remembers(Quadrants):
        def __getitem__(self, index: int) -> Any:
            self.read.append(index)
            return super().__getitem__(index)

    everything = []
    for rank in range(2):
        images = Remembers(37, seed=2)
        images.read = []
        rows = [row for row, _ in own_batches(DataLoader(images, batch_size=8), rank, 2)]
        assert images.read == [index for of_batch in rows for index in of_batch]
        everything += images.read
    assert sorted(everything) == list(range(37))


@pytest.mark.usefixtures("quick_processes")
def test_two_processes_get_the_points_of_one(tmp_path: Path) -> None:
    """All scores of all processes are needed for a threshold."""
    points = []
    for devices in (1, 2):
        save = SavesPoints(tmp_path / str(devices))
        strategy = "ddp_spawn" if devices > 1 else "auto"
        fit(
            tmp_path, *observers(), save, module=Still(), devices=devices, strategy=strategy,
            max_epochs=1, limit_train_batches=1,
        )  # fmt: skip
        points += [torch.load(tmp_path / f"{devices}_{rank}.pt") for rank in range(devices)]
    assert 0 < points[0][0]["rivals/atc_confidence"] < 1
    assert points[1] == points[2]
    assert points[0][0] == pytest.approx(points[1][0], abs=1e-6)


class SavesPoints(pl.Callback):
    """From each process, since spawned ones take their callbacks along."""

    def __init__(self, stem: Path) -> None:
        self.stem = stem

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        beside = next(c for c in trainer.callbacks if isinstance(c, LabelFreeRivals))
        torch.save(beside.points, f"{self.stem}_{trainer.global_rank}.pt")
