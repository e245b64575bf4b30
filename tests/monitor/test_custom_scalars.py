from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from aopc_monitor import AOPCMonitor
from aopc_monitor.monitor.custom_scalars import layout_of
from tests.modules import Classifier, loaders, trainer


@pytest.mark.parametrize(
    ("tag", "is_shown"),
    [
        ("aopc/lrp", True),
        ("aopc/random", True),
        ("aopc/confidence", True),
        ("aopc/accuracy", True),
        ("accuracy/val", True),
        ("val_acc", True),
        ("test/Accuracy", True),
        ("aopc/lrp_sem", False),
        ("aopc/other/accuracy", False),
        ("loss/train", False),
    ],
)
def test_chart_shows_aopc_and_any_accuracy(tag: str, is_shown: bool) -> None:
    _, patterns = layout_of("aopc", [""], ["lrp"])["aopc"]["AOPC and accuracy"]
    # As TensorBoard joins and matches them.
    assert bool(re.compile("|".join(f"({p})" for p in patterns)).match(tag)) == is_shown


def test_every_probe_has_a_chart() -> None:
    charts = layout_of("aopc", ["val", "target"], ["lrp"])["aopc"]
    assert list(charts) == ["AOPC and accuracy, val", "AOPC and accuracy, target"]
    assert "aopc/target/lrp$" in charts["AOPC and accuracy, target"][1]


def test_layout_is_written_once_and_to_tensorboard_only(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.custom_scalar import layout_pb2

    logger = TensorBoardLogger(tmp_path)
    watch: Any = AOPCMonitor(
        num_images=8, region_size=4, steps=4, data_range=(0.0, 1.0), custom_scalars=True
    )
    made = trainer(tmp_path, watch, logger=[CSVLogger(tmp_path), logger], max_epochs=1)
    made.fit(Classifier(), *loaders())
    events = accumulator.EventAccumulator(logger.log_dir, size_guidance={"tensors": 0}).Reload()
    (written,) = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(written.tensor_proto.string_val[0])
    (category,) = layout.category
    assert category.title == "aopc"
    assert [chart.title for chart in category.chart] == ["AOPC and accuracy"]
    assert list(category.chart[0].multiline.tag)[:2] == ["aopc/lrp$", "aopc/random$"]
    assert not events.Tags()["images"]
