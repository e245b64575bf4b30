"""A training with the monitor beside the same training without it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from aopc_monitor import AOPCMonitor, FixedReference
from tests import processes
from tests.integration.no_trace.cases import MESHES, PATCHES, Case
from tests.integration.no_trace.training import Callbacks, Trace, train
from tests.modules import Quadrants

SETTINGS: dict[str, Any] = {
    "every_n_steps": 1,
    "region_size": 4,
    "steps": 3,
    "data_range": (0.0, 1.0),
    "on_error": "raise",
}


def one_monitor() -> list[pl.Callback]:
    return [AOPCMonitor(["lrp", "deconvolution_l2", "sensitivity_l2"], num_images=6, **SETTINGS)]


def monitor_with_figures(kind: str) -> list[pl.Callback]:
    """As `one_monitor`, for another kind of input; regions of texts are their words."""
    settings = dict(SETTINGS)
    if kind.startswith("texts"):
        settings.update(region_size=None, data_range=None)
    elif kind == "tables":
        settings.update(region_size=None)
    heatmaps = ["lrp", "deconvolution_l2", "sensitivity_l2"]
    return [AOPCMonitor(heatmaps, num_images=6, figures=True, **settings)]


def drawing(images: Tensor) -> Tensor:
    """Which quadrant is the brightest, after a draw from each global generator."""
    _ = random.random(), np.random.rand(), torch.rand(())  # noqa: NPY002
    return F.adaptive_avg_pool2d(images.mean(dim=1, keepdim=True), 2).flatten(1)


def comparing_monitor(reference: str) -> list[pl.Callback]:
    """With a reference, and what `lerf` adds."""
    images = Quadrants(40)
    if reference == PATCHES:
        batches = [(images.images, images.labels)]
        made: Any = FixedReference.fit(batches, num_patches=8)
    else:
        made = drawing
    changes = {"reference": made, "lerf": True, "num_images": 20}
    return [AOPCMonitor("lrp", **SETTINGS, **changes)]


def shared_monitor() -> list[pl.Callback]:
    """With enough images for two processes, which are given 16 at a time."""
    return [AOPCMonitor(["lrp", "deconvolution_l2", "sensitivity_l2"], num_images=20, **SETTINGS)]


def both_traces(case: Case, folder: Path, extra: Callbacks, count: int = 1) -> tuple[Trace, Trace]:
    """What is left by a training without and by one with the callbacks that `extra` makes."""
    without, _ = train(case, folder, list, count)
    watched, callbacks = train(case, folder, extra, count)
    for monitor in callbacks:
        if isinstance(monitor, AOPCMonitor):
            assert len(monitor.history) >= 3, "the monitor has hardly looked"
    return without, watched


def compare(case: Case, folder: Path) -> list[str]:
    """Where the two trainings differ, on any process."""
    if case.processes == "1":
        found = [both_traces(case, folder / "training", _monitor_for(case))]
    else:
        count, _ = MESHES.get(case.processes, (2, 1))
        found = processes.run(_on_one_process, count, folder, case, folder / "training")
    return [line for rank, (a, b) in enumerate(found) for line in differences(a, b, f"[{rank}]")]


def _on_one_process(rank: int, count: int, case: Case, folder: Path) -> tuple[Trace, Trace]:
    # By this Lightning knows that the processes are there already.
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0")
    compared = case.reference != "none"
    return both_traces(case, folder, _monitor_for(case) if compared else shared_monitor, count)


def _monitor_for(case: Case) -> Callbacks:
    if case.reference != "none":
        return partial(comparing_monitor, case.reference)
    return one_monitor if case.kind == "images" else partial(monitor_with_figures, case.kind)


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """The places in which two nested values are not the same bit by bit."""
    if type(one) is not type(other):
        yield f"{where}: {type(one).__name__} and {type(other).__name__}"
    elif isinstance(one, dict):
        if list(one) != list(other):
            yield f"{where}: the keys {list(one)} and {list(other)}"
        for key in one.keys() & other.keys():
            yield from differences(one[key], other[key], f"{where}[{key!r}]")
    elif isinstance(one, (list, tuple)):
        if len(one) != len(other):
            yield f"{where}: {len(one)} and {len(other)} items"
        for index, (a, b) in enumerate(zip(one, other, strict=False)):
            yield from differences(a, b, f"{where}[{index}]")
    elif not _is_same(one, other):
        yield f"{where}: {str(one)[:60]} and {str(other)[:60]}"


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        alike = (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)
        return alike and torch.equal(_bytes(one), _bytes(other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, float):  # NaN is the same as NaN, and -0.0 is not 0.0
        return one.hex() == other.hex()
    return bool(one == other)


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().reshape(-1).contiguous().view(torch.uint8)
