"""What the monitor publishes is what stands in each logger's files afterwards."""

from __future__ import annotations

import csv
import json
import math
import pickle
import struct
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger

from aopc_monitor import AOPC, AOPCMonitor
from tests.modules import Classifier, loaders, small_network, trainer

KEYS = [
    f"aopc/{kind}"
    for kind in ("lrp", "random", "lrp_gain", "lrp_sem", "confidence", "accuracy", "seconds")
]
Points = dict[str, list[tuple[int, float]]]


def fit(tmp_path: Path, *loggers: Any) -> AOPCMonitor:
    """Two epochs of six steps, evaluated at 0, 4, 6, 8 and 12."""
    pl.seed_everything(0, verbose=False)
    monitor = AOPCMonitor(
        every_n_steps=4, num_images=20, region_size=4, steps=4, data_range=(0.0, 1.0),
        on_error="raise",
    )  # fmt: skip
    made = trainer(tmp_path, monitor, logger=list(loggers), log_every_n_steps=1)
    made.fit(Classifier(), *loaders())
    assert [record["step"] for record in monitor.history] == [0, 4, 6, 8, 12]
    return monitor


def assert_written(points: Points, monitor: AOPCMonitor) -> None:
    """All of the history, once, at the x of the batch that was trained on last."""
    written = {key for key in points if key.startswith("aopc/")}
    assert written >= set(KEYS)
    for key in written:
        expected = [(max(r["step"] - 1, 0), r[key]) for r in monitor.history if key in r]
        assert [step for step, _ in points[key]] == [step for step, _ in expected]
        assert [v for _, v in points[key]] == pytest.approx([v for _, v in expected], rel=1e-6)
    # As Lightning's own: a validation and its AOPC stand above each other.
    assert [step for step, _ in points["accuracy/val"]] == [5, 11]
    assert [step for step, _ in points["loss/train"]] == list(range(12))


def of_tensorboard(folder: str) -> Points:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(folder, size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def of_csv(folder: str) -> Points:
    points: Points = defaultdict(list)
    with (Path(folder) / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for key, value in row.items():
                if value and key not in ("step", "epoch"):
                    points[key].append((int(row["step"]), float(value)))
    return points


def of_mlflow(logger: MLFlowLogger) -> Points:
    client, run = logger.experiment, logger.run_id
    assert run is not None
    return {
        key: [(point.step, point.value) for point in client.get_metric_history(run, key)]
        for key in client.get_run(run).data.metrics
    }


def of_wandb(folder: Path) -> Points:
    """The rows of the one offline run in a folder."""
    (written,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    deadline, records = time.monotonic() + 60, wandb_records(written)
    # Another process writes, and is not always done when the run is finished.
    while not any(record.HasField("exit") for record in records) and time.monotonic() < deadline:
        time.sleep(0.1)
        records = wandb_records(written)
    points: Points = defaultdict(list)
    for record in records:
        row = {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in record.history.item
        }
        for key, value in row.items():
            if "/" in key and key != "trainer/global_step":
                points[key].append((row["trainer/global_step"], value))
    return points


def wandb_records(written: Path) -> list[Any]:
    internal = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    return [internal.Record.FromString(part) for part in leveldb_records(written.read_bytes())]


def leveldb_records(content: bytes) -> Iterator[bytes]:
    """Records of a LevelDB log, W&B's offline format: its own reader is not there in all versions.

    Blocks of 32 KiB hold fragments, each with a header of checksum, length and kind; kinds 1 and 4
    end a record. W&B puts seven bytes of its own in front.
    """
    block, header = 32768, struct.Struct("<IHB")
    position, record = 7, b""
    while position + header.size <= len(content):
        if block - position % block < header.size:  # the rest of a block is padding
            position += block - position % block
            continue
        _, length, kind = header.unpack_from(content, position)
        position += header.size
        if position + length > len(content):  # still being written
            return
        record += content[position : position + length]
        position += length
        if kind in (1, 4):
            yield record
            record = b""


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    logger = TensorBoardLogger(tmp_path)
    monitor = fit(tmp_path, logger)
    assert_written(of_tensorboard(logger.log_dir), monitor)


def test_csv(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    monitor = fit(tmp_path, logger)
    assert_written(of_csv(logger.log_dir), monitor)


@pytest.mark.parametrize("at_validation", [True, False])
def test_rows_carry_the_epoch_as_those_of_lightning_do(at_validation: bool, tmp_path: Path) -> None:
    monitor = AOPCMonitor(
        every_n_steps=4, num_images=4, region_size=4, steps=2, data_range=(0.0, 1.0),
        at_validation=at_validation,
    )  # fmt: skip
    logger = CSVLogger(tmp_path)
    trainer(tmp_path, monitor, logger=logger).fit(Classifier(), *loaders())
    with (Path(logger.log_dir) / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["aopc/lrp"]]
    steps = [record["step"] for record in monitor.history]
    assert steps == ([0, 4, 6, 8, 12] if at_validation else [0, 4, 8, 12])
    # Epochs of six steps; the last look comes when Lightning has counted the second one as over.
    assert [int(row["epoch"]) for row in rows] == [int(step > 6) for step in steps]


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    for name in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path))
    for name, value in (("MODE", "offline"), ("SILENT", "true"), ("ERROR_REPORTING", "false")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    monitor = fit(tmp_path, WandbLogger(save_dir=tmp_path, offline=True))
    wandb.finish()
    assert_written(of_wandb(tmp_path), monitor)


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    logger = MLFlowLogger(tracking_uri=(tmp_path / "runs").as_uri())
    monitor = fit(tmp_path, logger)
    assert_written(of_mlflow(logger), monitor)
    assert logger.experiment.get_run(logger.run_id).info.status == "FINISHED"


def test_several_loggers_hold_the_same(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    board, first, second = (
        TensorBoardLogger(tmp_path), CSVLogger(tmp_path, "a"), CSVLogger(tmp_path, "b"),
    )  # fmt: skip
    monitor = fit(tmp_path, board, first, second)
    for points in (of_tensorboard(board.log_dir), of_csv(first.log_dir), of_csv(second.log_dir)):
        assert_written(points, monitor)


def test_every_number_that_is_written_is_finite(tmp_path: Path) -> None:
    """Also for a single image, which has no standard error."""
    logger = CSVLogger(tmp_path)
    monitor = AOPCMonitor(num_images=1, region_size=4, steps=4, data_range=(0.0, 1.0))
    trainer(tmp_path, monitor, logger=logger).fit(Classifier(), *loaders())
    points = of_csv(logger.log_dir)
    assert set(points) >= set(KEYS) - {"aopc/lrp_sem"}
    assert all(math.isfinite(value) for series in points.values() for _, value in series)


class Measured(Classifier):
    """The metric as part of the module, logged as Lightning logs any metric."""

    def __init__(self) -> None:
        super().__init__()
        self.aopc = AOPC(replacement="mean", region_size=4, steps=4, data_range=(0.0, 1.0))
        self.expected: list[float] = []

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.aopc.update(self.network, batch[0])
        self.log("aopc", self.aopc)

    def on_validation_epoch_end(self) -> None:
        copied = pickle.loads(pickle.dumps(self.aopc))
        assert int(copied.count) == int(self.aopc.count) > 0
        copied.reset()
        copied.update(self.network, torch.stack([image for image, _ in loaders()[1].dataset]))
        self.expected.append(float(copied.compute()))


def test_a_metric_of_the_module_is_logged_and_leaves_no_trace(tmp_path: Path) -> None:
    logger, modules = CSVLogger(tmp_path), [Measured(), Classifier()]
    for module in modules:
        pl.seed_everything(0, verbose=False)
        module.network = small_network()
        made = trainer(tmp_path, logger=logger if module is modules[0] else False)
        made.fit(module, *loaders())
    weights = [module.state_dict() for module in modules]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    logged = of_csv(logger.log_dir)["aopc"]
    assert [step for step, _ in logged] == [5, 11]
    expected = modules[0].expected[1:]  # the first is of the sanity check, which is not logged
    assert [value for _, value in logged] == pytest.approx(expected, abs=1e-6)
