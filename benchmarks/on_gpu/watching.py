"""Part 2, second: heatmaps, a monitor's evaluation, its share of a training, memory, and waits."""

from __future__ import annotations

import contextlib
import io
import statistics
import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from aopc_monitor import AOPC, Execution, heatmaps
from aopc_monitor.metrics import evaluate
from aopc_monitor.monitor import BLOCK_SIZE
from aopc_monitor.network import ChunkSizesByNetwork, unwritten
from aopc_monitor.perturbation import ProtocolChoices, content_of
from benchmarks.memory_use import peak_of
from benchmarks.on_gpu.report import Cell
from benchmarks.on_gpu.rows import Rows, seconds_per_call, synchronize
from benchmarks.on_gpu.subjects import PRECISIONS, Scale, Subject
from benchmarks.on_gpu.waits import waits_of

PROBE = 128


def of_heatmaps(rows: Rows, scale: Scale) -> None:
    """LRP beside one forward and backward pass."""
    header = ("network", "heatmap", "ms an image", "over forward + backward", "host waits")
    note = "The profiler counts host waits, its own last one with them."
    table = rows.table("Heatmaps, in float32", header, note)
    for subject in scale.several("resnet18", "resnet50", "vit_b_16"):
        for heatmap in ("lrp", "lrp_alpha2_beta1"):
            work = partial(_cells_of_heatmap, subject, heatmap, scale)
            rows.add(table, (subject.network, heatmap), work, expected=4.0)


def _cells_of_heatmap(subject: Subject, heatmap: str, scale: Scale) -> list[Cell]:
    device = scale.device
    model, images = subject.model(device), subject.some_images(subject.images, device)
    target = torch.zeros(len(images), dtype=torch.long, device=device)
    make = partial(heatmaps.get(heatmap), model, images, target)
    both = partial(forward_and_backward, model, images, target)
    with PRECISIONS["float32"].set():
        once, seconds = (seconds_per_call(run, device, scale.at_least) for run in (both, make))
    return [seconds / len(images) * 1e3, seconds / once, waits_of(make, device)]


def forward_and_backward(model: nn.Module, images: Tensor, target: Tensor) -> None:
    """The gradient of the outputs in the images and nothing else."""
    entrance = images.clone().requires_grad_()
    scores = model(entrance).gather(1, target[:, None]).sum()
    torch.autograd.grad(scores, entrance)


class Look:
    """An evaluation as a monitor makes it by default: of a probe on the CPU, in its blocks.

    Args:
        scale: how much is measured.
        name: of the network.
    """

    def __init__(self, scale: Scale, name: str = "resnet18") -> None:
        subject, self.device = scale.named(name), scale.device
        self.model = subject.model(self.device)
        count = 2 * BLOCK_SIZE if scale.quick else PROBE
        self.probe = subject.some_images(count, torch.device("cpu"))
        self.protocol = ProtocolChoices(data_range=(0.0, 1.0)).for_images(self.probe)
        self._chunks = ChunkSizesByNetwork(None, searching=False)
        self._heatmaps = {"lrp": heatmaps.get("lrp")}

    def __call__(self) -> None:
        """Evaluate, and read the result."""
        with unwritten(self.model):
            total = None
            for block in self.probe.split(BLOCK_SIZE):
                images = block.to(self.device)
                chunks = self._chunks.of(self.model, images)
                found = evaluate(self.model, images, None, self._heatmaps, self.protocol, 0, chunks)
                total = found if total is None else total + found
            assert total is not None
            total.summary()


def of_the_monitor(rows: Rows, scale: Scale) -> None:
    """What a default evaluation costs, and its parts that are not forwards."""
    note = "In float32, with TF32 where torch allows it by default: in convolutions."
    table = rows.table("A monitor's default evaluation", ("what", "value", "unit"), note)
    network = scale.named("resnet18")
    images = f"{2 * BLOCK_SIZE if scale.quick else PROBE} images of {network.side} x {network.side}"
    batch = _validation_batch(scale)
    rows.add(
        table,
        (f"evaluation of {images} by {network.network}",),
        lambda: [seconds_per_call(Look(scale), scale.device, scale.at_least) * 1e3, "ms"],
        expected=8.0,
    )
    rows.add(
        table,
        ("checksum of these images, which the noise starts from",),
        lambda: _ms(partial(_checksums, Look(scale).probe.to(scale.device)), scale),
    )
    for kind in ("pageable", "pinned", "kept on the device"):
        rows.add(
            table,
            (f"copying them to the device: {kind}",),
            partial(_cells_of_copy, kind, scale),
            needs_cuda=True,
        )
    rows.add(
        table,
        (f"peak of its memory, above that of a validation forward of {batch}",),
        partial(_cells_of_memory, scale),
        expected=3.0,
    )
    rows.add(table, ("peak of that forward",), lambda: [_validation_peak(scale) / 2**20, "MiB"])


def _ms(run: Callable[[], object], scale: Scale) -> list[Cell]:
    return [seconds_per_call(run, scale.device, scale.at_least) * 1e3, "ms"]


def _checksums(images: Tensor) -> None:
    for block in images.split(BLOCK_SIZE):
        content_of(block)


def _cells_of_copy(kind: str, scale: Scale) -> list[Cell]:
    probe = Look(scale).probe
    if kind == "pinned":
        probe = probe.pin_memory()
    elif kind != "pageable":
        probe = probe.to(scale.device)
    return _ms(lambda: probe.to(scale.device, non_blocking=kind == "pinned"), scale)


def _cells_of_memory(scale: Scale) -> list[Cell]:
    look = Look(scale)
    look()
    return [(device_peak(look, scale.device) - _validation_peak(scale)) / 2**20, "MiB"]


def _validation_batch(scale: Scale) -> int:
    return 8 if scale.quick else 64


def _validation_peak(scale: Scale) -> int:
    subject = scale.named("resnet18")
    model = subject.model(scale.device)
    images = subject.some_images(_validation_batch(scale), torch.device("cpu"))

    def validate() -> None:
        with torch.no_grad():
            model(images.to(scale.device))

    return device_peak(validate, scale.device)


def device_peak(run: Callable[[], object], device: torch.device) -> int:
    """Most bytes of tensors at a time, above those that were there before."""
    if device.type != "cuda":
        return peak_of(run)
    run()
    synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def of_waits(rows: Rows, scale: Scale) -> None:
    """How often the host waits for the device while curves are made."""
    header = ("network", "chunks", "host waits", "more chunks", "host waits then", "per chunk")
    table = rows.table("Host waits of a curve, counted by the profiler", header)
    for subject in scale.subjects[:2]:
        work = partial(_cells_of_waits, subject.network, scale)
        rows.add(table, (subject.network,), work, expected=5.0)


def _cells_of_waits(name: str, scale: Scale) -> list[Cell]:
    subject, device = scale.named(name), scale.device
    model, images = subject.model(device), subject.some_images(4, device)
    cells: list[Cell] = []
    waits, chunks = [], []
    for chunk_size in (4 * subject.steps, 4):
        metric = AOPC(
            region_size=subject.region_size,
            steps=subject.steps,
            data_range=(0.0, 1.0),
            execution=Execution(chunk_size),
        )
        update = partial(metric.update, model, images, images.mean(dim=1))
        update()
        chunks.append(4 * subject.steps // chunk_size)
        waits.append(waits_of(update, device))
        cells += [chunks[-1], waits[-1]]
    return [*cells, (waits[1] - waits[0]) / (chunks[1] - chunks[0])]


def of_training(rows: Rows, scale: Scale) -> None:
    """The monitor's share of a training whose data cost nothing."""
    header = ("training", "steps", "ms a step", "evaluations", "ms of the median one", "share")
    note = (
        "Batches lie on the device already, so that the share is as large as it can be. The "
        "monitor evaluates at the start, at the validation half-way, and at the end."
    )
    table = rows.table("The monitor's share of a training", header, note)
    subject = scale.named("resnet18")
    names = (f"{subject.network}, {'8' if scale.quick else '64'} images a step",)
    rows.add(table, names, partial(_cells_of_training, scale), expected=50.0 * (not scale.quick))


def _cells_of_training(scale: Scale) -> list[Cell]:
    from benchmarks.on_gpu.training import watched_training

    steps = 4 if scale.quick else 1000
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        elapsed, evaluations = watched_training(scale, steps)
    within = sum(evaluations)
    return [
        steps,
        (elapsed - within) / steps * 1e3,
        len(evaluations),
        statistics.median(evaluations) * 1e3,
        within / elapsed,
    ]
