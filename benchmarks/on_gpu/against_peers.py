"""Part 3: other libraries on the same network and images."""

from __future__ import annotations

import warnings
from functools import partial

from aopc_monitor.heatmaps import LRPEpsilon
from benchmarks.on_gpu.report import Cell
from benchmarks.on_gpu.rows import Rows, seconds_per_call
from benchmarks.on_gpu.subjects import OF_PEERS, PRECISIONS, Scale, Subject


def against_peers(rows: Rows, scale: Scale) -> None:
    """Quantus' RegionPerturbation, and LRP by zennit and captum."""
    header = ("network", "images", "steps", "Quantus, s", "ours, all steps, s", "Quantus / ours")
    note = "Uniform noise, one repeat, float32; Quantus draws one number per region."
    table = rows.table("Quantus' RegionPerturbation", header, note)
    cases = [("small_cnn", 16, 4, 4, 2)] if scale.quick else [
        ("small_cnn", 32, 4, 32, 64), ("resnet50", 216, 9, 100, 8)
    ]  # fmt: skip
    for network, side, region_size, steps, count in cases:
        work = partial(_cells_of_quantus, (network, side, region_size, steps, count), scale)
        rows.add(table, (network, count, steps), work, expected=15.0 * (not scale.quick))
    of_lrp = ("network", "library", "ms an image", "ours, ms an image", "theirs / ours")
    table = rows.table("LRP-epsilon, in float32", of_lrp)
    subject = OF_PEERS if scale.quick else scale.named("resnet50")
    for library in ("zennit", "captum"):
        work = partial(_cells_of_lrp, library, subject, scale)
        rows.add(table, (subject.network, library), work, expected=5.0 * (not scale.quick))


def _cells_of_quantus(case: tuple[str, int, int, int, int], scale: Scale) -> list[Cell]:
    from benchmarks.against_quantus import Case

    made = Case.of(*case, device=str(scale.device))
    with warnings.catch_warnings(), PRECISIONS["float32"].set():
        warnings.filterwarnings("ignore", module="quantus")
        theirs = seconds_per_call(
            partial(made.theirs, perturb_baseline="uniform"), scale.device, scale.at_least
        )
        ours = seconds_per_call(made.ours, scale.device, scale.at_least)
    return [theirs, ours, theirs / ours]


def _cells_of_lrp(library: str, subject: Subject, scale: Scale) -> list[Cell]:
    from benchmarks import peers

    device = scale.device
    model, images = subject.model(device), subject.some_images(subject.images, device)
    target = model(images).argmax(dim=1).detach()
    theirs = {"zennit": peers.zennit_epsilon, "captum": peers.captum_lrp}[library]
    with PRECISIONS["float32"].set():
        seconds = [
            seconds_per_call(partial(make, model, images, target), device, scale.at_least)
            for make in (theirs, LRPEpsilon(peers.EPSILON))
        ]
    per_image = [second / len(images) * 1e3 for second in seconds]
    return [*per_image, per_image[0] / per_image[1]]
