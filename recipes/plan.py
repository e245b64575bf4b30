"""How long a study will take: forwards, speed measured on this machine, hours. Nothing else is run.

python -m recipes.plan --network resnet50 --image-size 224 --num-images 50000 --devices 8

A few random images go through a network with random weights, since time depends on neither. The
protocol of the paper is the default; what sampled steps would take stands beside it.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps import Heatmap
from aopc_monitor.metrics import CleanBatch, num_orders, results_of_orders
from aopc_monitor.network import ChunkSizes, untouched
from aopc_monitor.perturbation import (
    SUGGESTED_SAMPLED_STEPS,
    Grid,
    Order,
    PerturbationProtocol,
    suggested_region_size,
)
from recipes.shared.freed_memory import keep_all_freed_memory
from recipes.shared.heatmap_study import chosen_heatmaps, known_names
from recipes.shared.training.networks import SMALL, build

DATA_RANGE = ([0.0] * 3, [1.0] * 3)
MEASURED_IMAGES = 32
# After a first time, which is slow: what is measured takes at least so long.
LEAST_SECONDS = 2.0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line to settings."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.plan",
        description="Tell how long a study will take, without running it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--network",
        default="resnet50",
        metavar="NAME",
        help=f"{', '.join(SMALL)}, a classification model of torchvision, or module:function",
    )
    parser.add_argument("--image-size", type=int, default=224, help="pixels")
    parser.add_argument("--num-classes", type=int, default=1000)
    parser.add_argument("--num-images", type=int, default=5040, help="of the study")
    parser.add_argument(
        "--heatmaps", nargs="+", default=["lrp"], choices=known_names(), metavar="NAME",
        help="beside the random order, which is always evaluated",
    )  # fmt: skip
    parser.add_argument("--region-size", type=int, help="chosen for the image size if not given")
    parser.add_argument("--steps", type=int, default=100, help="at most as many as regions")
    parser.add_argument("--sampled-steps", type=int, help="of each image; all if not given")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--devices", type=int, default=1, help="devices, or processes on a CPU")
    parser.add_argument(
        "--strategy", choices=("ddp", "fsdp2"), default="ddp",
        help="whether each device has the whole network, or gathers it for each forward",
    )  # fmt: skip
    parser.add_argument(
        "--bandwidth", type=float, default=25.0, help="GB a device gathers in a second, of fsdp2"
    )
    options = parser.parse_args(arguments)
    for name in ("num_images", "devices"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if not options.bandwidth > 0:
        parser.error("--bandwidth must be more than 0")
    return options


@dataclass(frozen=True)
class Speed:
    """What was measured, in seconds for an image.

    Attributes:
        clean: its first forward.
        heatmaps: each of its heatmaps, by name.
        perturbed: each of its perturbed copies, made and sent through the network.
    """

    clean: float
    heatmaps: Mapping[str, float]
    perturbed: float

    def seconds(self, num_images: int, protocol: PerturbationProtocol) -> float:
        """Time of a study on one device like this one."""
        once = self.clean + sum(self.heatmaps.values())
        copies = num_orders(len(self.heatmaps)) * protocol.strata.count * protocol.draws
        return num_images * (once + copies * self.perturbed)


def protocol_of(options: argparse.Namespace) -> PerturbationProtocol:
    """The protocol that the arguments name.

    Raises:
        ValueError: if regions do not fit the image, or for another impossible value.
    """
    side = options.image_size
    region_size = options.region_size or suggested_region_size(side, side)
    steps = min(options.steps, Grid((side, side), region_size).num_regions)
    return PerturbationProtocol(
        region_size,
        steps,
        DATA_RANGE,
        repeats=options.repeats,
        sampled_steps=options.sampled_steps,
    )


def measured(
    model: nn.Module,
    images: Tensor,
    heatmaps: Mapping[str, Heatmap],
    protocol: PerturbationProtocol,
) -> Speed:
    """Time what a study does, on a few images; the model is left as it was.

    Args:
        model: the network.
        images: (N, 3, H, W), on its device.
        heatmaps: by name.
        protocol: how images are perturbed. Of its steps only as many are taken as fill two chunks.
    """
    chunks = ChunkSizes.of(None, images)
    wanted = max(1, 2 * chunks.forward.size // len(images))
    few = replace(protocol, sampled_steps=min(wanted, protocol.steps), repeats=1)
    with untouched(model):
        clean = CleanBatch.of(model, images, few.score, few.execution, chunks)
        relevance = images.mean(dim=1)
        orders: list[tuple[Tensor, Order]] = [(relevance, "morf")] * len(heatmaps)
        orders.append((relevance, "random"))

        def look() -> object:
            return CleanBatch.of(model, images, few.score, few.execution, chunks)

        def explain(heatmap: Heatmap) -> object:
            return clean.heatmaps(heatmap, chunks)

        def perturb() -> object:
            generator = torch.Generator(images.device).manual_seed(0)
            return results_of_orders(clean, few, orders, generator, chunks)

        copies = len(orders) * few.strata.count
        return Speed(
            _seconds(look, images) / len(images),
            {
                name: _seconds(partial(explain, heatmap), images) / len(images)
                for name, heatmap in heatmaps.items()
            },
            _seconds(perturb, images) / len(images) / copies,
        )


def _seconds(work: Callable[[], object], images: Tensor) -> float:
    """Mean wall time of a call, after one that does not count."""

    def worked() -> float:
        work()
        if images.is_cuda:
            torch.cuda.synchronize(images.device)
        return time.perf_counter()

    began, count = worked(), 0
    while (now := worked()) - began < LEAST_SECONDS or count == 0:
        count += 1
    return (now - began) / (count + 1)


def plan_of(options: argparse.Namespace, protocol: PerturbationProtocol, speed: Speed) -> str:
    """What a study takes, in lines for people."""
    side, size, threads = options.image_size, protocol.region_size, torch.get_num_threads()
    device = f"cpu, {threads} threads" if options.device == "cpu" else options.device
    heatmaps = ", ".join(f"{name} {1 / seconds:,.1f}" for name, seconds in speed.heatmaps.items())
    sampled = replace(
        protocol, sampled_steps=min(SUGGESTED_SAMPLED_STEPS, protocol.steps), repeats=1
    )
    return "\n".join(
        [
            f"study     {options.network}, {options.num_images:,} images of {side} x {side}, "
            f"regions of {size} x {size}; {', '.join(options.heatmaps)} and a random order",
            f"speed     {1 / speed.perturbed:,.1f} perturbed images a second, heatmaps a second: "
            f"{heatmaps} (measured here: {device})",
            _line("as asked", options, protocol, speed),
            _line("sampled", options, sampled, speed),
        ]
    )


def _line(
    name: str, options: argparse.Namespace, protocol: PerturbationProtocol, speed: Speed
) -> str:
    steps = f"{protocol.steps} steps"
    if protocol.strata.count < protocol.steps:
        steps = f"{protocol.strata.count} sampled of {steps}"
    forwards = protocol.forwards(options.num_images, num_orders(len(options.heatmaps)))
    alone = speed.seconds(options.num_images, protocol)
    repeats = "1 repeat" if protocol.draws == 1 else f"{protocol.draws} repeats"
    text = f"{name:<9} {steps}, {repeats}: {forwards:,} forwards, {_time(alone)}"
    if options.devices > 1:
        text += f" on one device, {_time(alone / options.devices)} on {options.devices}"
    return text


def gathering_line(
    options: argparse.Namespace, protocol: PerturbationProtocol, model: nn.Module, chunk: int
) -> str:
    """What the devices gather of a network that is spread over them by FSDP2.

    Args:
        options: the arguments.
        protocol: how images are perturbed.
        model: the network.
        chunk: images of a forward.
    """
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    heatmaps = len(options.heatmaps)
    forwards = protocol.forwards(options.num_images, num_orders(heatmaps))
    explained = 2 * heatmaps * options.num_images  # once for the forward, once for the backward
    times = math.ceil((forwards + explained) / options.devices / chunk)
    gathered = times * size * (options.devices - 1) / options.devices / 1e9
    return (
        f"gathering as asked: {times:,} times {size / 1e9:,.3g} GB, {gathered:,.3g} GB on each of "
        f"{options.devices} devices, at most {_time(gathered / options.bandwidth)} more (computed)"
    )


def _time(seconds: float) -> str:
    """Readable: seconds, minutes or hours.

    Example:
        >>> _time(42.0), _time(1200.0), _time(86400.0)
        ('42 seconds', '20 minutes', '24.0 hours')
    """
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:,.1f} hours"


def subject(options: argparse.Namespace, num_images: int) -> tuple[nn.Module, Tensor]:
    """A network with random weights and random images for it, on the device."""
    torch.manual_seed(0)
    network = build(options.network, options.num_classes, options.image_size).eval()
    images = torch.rand(num_images, 3, options.image_size, options.image_size)
    return network.to(options.device), images.to(options.device)


def main(arguments: Sequence[str] | None = None) -> Speed:
    """Measure, and print the plan."""
    options = parse_arguments(arguments)
    try:
        protocol = protocol_of(options)
    except ValueError as error:
        raise SystemExit(f"recipes.plan: {error}") from error
    model, images = subject(options, min(MEASURED_IMAGES, options.num_images))
    heatmaps = chosen_heatmaps(options.heatmaps, DATA_RANGE)
    speed = measured(model, images, heatmaps, protocol)
    print(plan_of(options, protocol, speed))
    if options.strategy == "fsdp2" and options.devices > 1:
        chunk = ChunkSizes.of(None, images).backward.size
        print(gathering_line(options, protocol, model, chunk))
    return speed


if __name__ == "__main__":
    keep_all_freed_memory()
    main()
