"""Part 2, first: perturbation curves beside the bare network."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from aopc_monitor import AOPC, Execution
from aopc_monitor.network import is_out_of_memory
from benchmarks.on_gpu.graphs import Graphed
from benchmarks.on_gpu.report import Cell
from benchmarks.on_gpu.rows import Rows, seconds_per_call
from benchmarks.on_gpu.subjects import PRECISIONS, Precision, Scale, Subject

LAYOUTS = {"contiguous": False, "channels last": True}
SAMPLED_STEPS = 4
# A search for the chunk size has ended after so many updates, or the rest of it counts.
UPDATES_OF_A_SEARCH = 6
BARE_NOTE = (
    "A share is images per second over those of the bare network at its best batch size, in the "
    "same precision and layout; heatmaps are given and not counted."
)


@dataclass
class Case:
    """A network in a precision and layout.

    Attributes:
        subject: which.
        precision: how products are rounded.
        channels_last: whether weights and images have the channels last.
        scale: how much is measured.
    """

    subject: Subject
    precision: Precision
    channels_last: bool
    scale: Scale

    def __post_init__(self) -> None:
        self.model = self.subject.model(self.scale.device, self.channels_last)

    def images(self, count: int) -> Tensor:
        """Some images."""
        return self.subject.some_images(count, self.scale.device, self.channels_last)

    def bare(self) -> tuple[float, int]:
        """Images per second of the network alone, and the batch size at which they are most."""
        rates = {size: self._bare_rate(size) for size in self.subject.batch_sizes}
        best = max(rates, key=lambda size: rates[size])
        if not rates[best]:
            raise torch.OutOfMemoryError("out of memory at every batch size")
        return rates[best], best

    def _bare_rate(self, size: int) -> float:
        """Images per second; 0 if memory does not suffice."""
        device = self.scale.device
        try:
            images = self.images(size)
            # One context around all, so that weights are cast once.
            with torch.inference_mode(), self.precision.set(), self.precision.cast(device):
                seconds = seconds_per_call(partial(self.model, images), device, self.scale.at_least)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return 0.0
        return size / seconds

    def metric(self, sampled_steps: int | None, **choices: Any) -> AOPC:
        """An AOPC of it."""
        return AOPC(
            region_size=self.subject.region_size,
            steps=self.subject.steps,
            data_range=(0.0, 1.0),
            sampled_steps=sampled_steps,
            execution=Execution(autocast=self.precision.autocast, **choices),
        )

    def rate(
        self, sampled_steps: int | None, model: nn.Module | None = None, **choices: Any
    ) -> float:
        """Images per second that go through the network while curves are made."""
        # With few steps more images, so that it is as much work.
        times = 1 if sampled_steps is None else self.subject.steps // sampled_steps
        images = self.images(self.subject.images * times)
        metric = self.metric(sampled_steps, **choices)
        update = partial(metric.update, model or self.model, images, images.mean(dim=1))
        with self.precision.set():
            if "chunk_size" not in choices:
                for _ in range(UPDATES_OF_A_SEARCH):
                    update()
            seconds = seconds_per_call(update, self.scale.device, self.scale.at_least)
        return metric.protocol.forwards(len(images), 1) / seconds


def curves(rows: Rows, scale: Scale) -> None:
    """Full curves and sampled steps, in every precision and layout."""
    header = (
        "network", "precision", "layout", "bare, images/s", "best batch", "full curve, images/s",
        "share", f"{SAMPLED_STEPS} sampled steps, images/s", "share of these",
    )  # fmt: skip
    table = rows.table("Curves beside the bare network", header, BARE_NOTE)
    # First what matters most, in case the time is short.
    for subject, layout, name in product(scale.subjects, LAYOUTS, reversed(PRECISIONS)):
        work = partial(_cells_of_curves, subject, PRECISIONS[name], LAYOUTS[layout], scale)
        names = (subject.network, name, layout)
        rows.add(table, names, work, subject.seconds, PRECISIONS[name].needs_cuda)


def _cells_of_curves(
    subject: Subject, precision: Precision, channels_last: bool, scale: Scale
) -> list[Cell]:
    case = Case(subject, precision, channels_last, scale)
    bare, size = case.bare()
    full, sampled = (
        case.rate(steps, chunk_size=size, channels_last=channels_last)
        for steps in (None, SAMPLED_STEPS)
    )
    return [bare, size, full, full / bare, sampled, sampled / bare]


def ways(rows: Rows, scale: Scale) -> None:
    """The same forwards as users get them, as CUDA graphs, and compiled."""
    header = ("network", "precision", "way", "bare, images/s", "full curve, images/s", "share")
    note = (
        "Channels last, as the bare network. By default the chunk size is looked for; the others "
        "have that of the best batch. The graph is that of the network alone, for chunks of one "
        "shape."
    )
    table = rows.table("Ways to carry forwards out", header, note)
    subjects = scale.several("small_cnn", "resnet18", "resnet50")
    for way, subject in product(("default", "CUDA graph", "compiled"), subjects):
        work = partial(_cells_of_way, subject, way, scale)
        # Compiling takes half a minute or more, and much longer on a CPU.
        expected = subject.seconds + (45.0 if way == "compiled" else 0.0)
        needs_cuda = way == "CUDA graph" or (way == "compiled" and scale.quick)
        rows.add(table, (subject.network, "bfloat16", way), work, expected, needs_cuda)


def _cells_of_way(subject: Subject, way: str, scale: Scale) -> list[Cell]:
    case = Case(subject, PRECISIONS["bfloat16"], True, scale)
    bare, size = case.bare()
    model, choices = case.model, dict[str, Any]()
    if way != "default":
        choices = {"chunk_size": size, "channels_last": True}
    if way == "compiled":
        choices["backend"] = "compile"
    elif way == "CUDA graph":
        model = Graphed(case.model, case.images(size), case.precision)
    with warnings.catch_warnings():
        # Then the network is called as it is, which is another row.
        warnings.filterwarnings("error", message='backend="compile"')
        full = case.rate(None, model, **choices)
    return [bare, full, full / bare]
