from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from aopc_monitor import AOPCMonitor
from aopc_monitor.monitor.dashboard.custom_scalars import layout_of
from aopc_monitor.monitor.dashboard.picture_loggers import tag_in
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
    (patterns,) = patterns_of([monitor().settings])
    assert is_matched(patterns, tag) == is_shown


def test_every_probe_has_a_chart() -> None:
    probes = monitor(dataloader={"val": [], "target": []})
    charts = layout_of([probes.settings])["aopc"]
    assert list(charts) == ["AOPC and accuracy, val", "AOPC and accuracy, target"]
    assert "aopc/target/lrp$" in charts["AOPC and accuracy, target"][1]


def test_a_chart_leaves_other_monitors_to_theirs() -> None:
    others = [monitor(prefix="b").settings, monitor(prefix="c", custom_scalars=False).settings]
    layout = layout_of([monitor().settings, *others])
    assert list(layout) == ["aopc", "b"]
    first, second = patterns_of([monitor().settings, *others])
    assert is_matched(first, "aopc/accuracy")
    assert not is_matched(second, "aopc/accuracy")
    for tag, is_shown in (("b/accuracy", False), ("c/accuracy", False), ("val_acc", True)):
        assert is_matched(first, tag) == is_shown


def test_a_prefix_of_the_logger_is_part_of_the_tags() -> None:
    logger = TensorBoardLogger("unused", prefix="run1")
    (patterns,) = patterns_of([monitor().settings], partial(tag_in, logger))
    assert is_matched(patterns, "run1-aopc/lrp")
    assert is_matched(patterns, "run1-val_acc")
    assert not is_matched(patterns, "run1-aopc/other/accuracy")
    assert not is_matched(patterns, "aopc/lrp")


def monitor(**changes: Any) -> Any:
    settings: dict[str, Any] = {
        "num_images": 8, "region_size": 4, "steps": 4, "data_range": (0.0, 1.0),
        "custom_scalars": True,
    }  # fmt: skip
    return AOPCMonitor(**(settings | changes))


def patterns_of(*arguments: Any) -> list[list[str]]:
    return [chart[1] for charts in layout_of(*arguments).values() for chart in charts.values()]


def is_matched(patterns: list[str], tag: str) -> bool:
    """As TensorBoard joins and matches them."""
    return bool(re.compile("|".join(f"({p})" for p in patterns)).match(tag))


def layouts_in(logger: TensorBoardLogger) -> list[Any]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.custom_scalar import layout_pb2

    events = accumulator.EventAccumulator(logger.log_dir, size_guidance={"tensors": 0}).Reload()
    assert not events.Tags()["images"]
    written = events.Tensors("custom_scalars__config__")
    return [layout_pb2.Layout.FromString(w.tensor_proto.string_val[0]) for w in written]


def test_layout_is_written_once_and_to_tensorboard_only(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    made = trainer(tmp_path, monitor(), logger=[CSVLogger(tmp_path), logger], max_epochs=1)
    made.fit(Classifier(), *loaders())
    (layout,) = layouts_in(logger)
    (category,) = layout.category
    assert category.title == "aopc"
    assert [chart.title for chart in category.chart] == ["AOPC and accuracy"]
    assert list(category.chart[0].multiline.tag)[:2] == ["aopc/lrp$", "aopc/random$"]


def test_the_layout_of_one_monitor_does_not_erase_that_of_another(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, prefix="run1")
    made = trainer(tmp_path, monitor(), monitor(prefix="b"), logger=logger, max_epochs=1)
    made.fit(Classifier(), *loaders())
    first, second = layouts_in(logger)
    assert first == second
    assert [category.title for category in first.category] == ["aopc", "b"]
    assert first.category[1].chart[0].multiline.tag[0] == "run1\\-b/lrp$"
