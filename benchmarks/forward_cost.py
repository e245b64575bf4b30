"""What a perturbed image costs, beside one that only goes through the network.

    python -m benchmarks.forward_cost

prints a table: wall time per forward of a full perturbation curve, divided by that of the bare
network in inference mode, eager, channels first, at the batch size that is best for it. Heatmaps
are given and not counted. Beside the defaults stand other choices, each with what it does to the
AOPC, and the bare network given images with the channels last, which is as low as the defaults can
come on a CPU. All send as many images through the network, in turns in one process; medians over
turns. What a processor can do at all is told by a product of two matrices, among the turns too.

"incremental" computes what a step changes, which needs a replacement that is the same for all
steps: it has a constant, and its AOPC is held against that of the same one.

What "compiled" and "openvino" (where the extra fast-cpu is installed) take before their first
answer is counted as for a study of 1,000 images; beside it stand the ratio without it, and its
seconds. "perturbing, ms" is the time of an image whose network does nothing. "evaluation / floor"
is a whole default evaluation, of LRP and a random order at 4 sampled steps, over 9 bare forwards of
each image at the best batch size and layout and a forward and backward pass; and LRP alone over a
forward and backward pass.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from aopc_monitor import AOPC, Execution, heatmaps
from aopc_monitor.metrics import evaluate
from aopc_monitor.network import is_installed
from aopc_monitor.perturbation import (
    SUGGESTED_SAMPLED_STEPS,
    Constant,
    PerturbationProtocol,
    Replacement,
)
from benchmarks.timing import in_turns, machine, seconds_of
from recipes.shared.training.networks import SMALL, build

# By the side of images; the best one is among them.
BATCH_SIZES = {32: (16, 32, 64, 128, 256), 224: (1, 4, 8, 16, 32, 64)}
# Images of one measurement: a few seconds on two cores.
IMAGES = {32: 64, 224: 8}
MATRIX_SIDE = 2048
STEPS = 32
REGION_SIZES = {32: 4, 224: 9}
# Of each image in a default evaluation: the clean one, and 4 steps of 2 orders.
FORWARDS = 1 + 2 * SUGGESTED_SAMPLED_STEPS
OTHERS = {
    "channels first": Execution(channels_last=False),
    "64 at once": Execution(chunk_size=64),
    "bfloat16": Execution(autocast=torch.bfloat16),
    "compiled": Execution(backend="compile"),
    "fused": Execution(backend="fused"),
    "incremental": Execution(backend="incremental"),
}
# These have a replacement that stays the same for all steps.
FIXED = ("incremental",)
if is_installed("openvino"):
    OTHERS["openvino"] = Execution(backend="openvino")
# They are made before their first answer, which is counted for so many images.
MADE_FIRST, STUDY_IMAGES = ("compiled", "openvino"), 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "models", nargs="*", default=("small_cnn", "alexnet", "mobilenet_v2", "resnet18")
    )
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--others", nargs="*", default=list(OTHERS), choices=OTHERS)
    arguments = parser.parse_args()
    print(f"{machine('torchvision')}\n")
    columns = ["bare, ms at best batch", "bare, channels last", "defaults", *arguments.others]
    columns += ["perturbing, ms", "evaluation / floor", "LRP / forward + backward"]
    print(f"| model | images | {' | '.join(columns)} | matrices, GFLOP/s |")
    print(f"|---|---:|{'---:|' * len(columns)}---:|")
    for name in arguments.models:
        print(row_of(name, arguments), flush=True)


def row_of(name: str, arguments: argparse.Namespace) -> str:
    """A row of the table."""
    torch.manual_seed(0)
    size = 32 if name in SMALL else 224
    model = (build(name, 10, size) if name in SMALL else torchvision.models.get_model(name)).eval()
    # The layout is torch's; the recipes' own networks come with another one.
    model = model.to(arguments.device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    images = torch.rand(max(BATCH_SIZES[size]), 3, size, size, device=arguments.device)
    curves = {"defaults": Curve(model, images[: IMAGES[size]], Execution())}
    for other in arguments.others:
        replacement = Constant() if other in FIXED else None
        curves[other] = Curve(model, images[: IMAGES[size]], OTHERS[other], replacement)
    matrix = torch.rand(MATRIX_SIDE, MATRIX_SIDE, device=arguments.device)
    contestants: dict[str, Callable[[], object]] = {
        **bare_runs(model, images, curves["defaults"].forwards),
        **curves,
        "perturbing": Curve(FirstPixels(), images[: IMAGES[size]], Execution()),
        **evaluations(model, images[: IMAGES[size]]),
        "matrices": partial(torch.mm, matrix, matrix),
    }
    first = {label: seconds_of(run) for label, run in contestants.items()}  # which is slow
    turns = in_turns(contestants, arguments.turns)
    seconds = {label: statistics.median(found) for label, found in turns.items()}
    made = {name: first[name] - seconds[name] for name in MADE_FIRST if name in seconds}
    cells = cells_of(curves, seconds, flops_of(model, images[:1]), made)
    return f"| {name} | {size} x {size} | {' | '.join(cells)} |"


def cells_of(
    curves: Mapping[str, Curve],
    seconds: Mapping[str, float],
    flops: int,
    made: Mapping[str, float],
) -> list[str]:
    """What a row says.

    Args:
        curves: by choice.
        seconds: by contestant.
        flops: of a forward.
        made: seconds that a choice takes before its first answer, of those that take any.
    """
    total, images = curves["defaults"].forwards, len(curves["defaults"].images)
    sizes = BATCH_SIZES[curves["defaults"].images.shape[-1]]
    best = min(sizes, key=lambda n: seconds[f"first {n}"])
    once, last = seconds[f"first {best}"], min(seconds[f"last {n}"] for n in sizes)
    both = min(seconds["both first"], seconds["both last"])
    floor = min(once, last) * FORWARDS * images / total + both

    def ratio(name: str, curve: Curve) -> str:
        share, default = seconds[name] / once, curves["defaults"].value
        if name in FIXED:
            default = replace(curve, execution=Execution()).measured()
        if name not in made:
            return cell(curve, share, default)
        counted = made[name] * images / STUDY_IMAGES / once
        return f"{cell(curve, share + counted, default)}, {share:.2f} without, {made[name]:.1f} s"

    return [
        f"{once / total * 1e3:.2f} at {best} ({flops * total / once / 1e9:.0f} GFLOP/s)",
        f"{last / once:.2f} ({flops * total / last / 1e9:.0f} GFLOP/s)",
        *(ratio(name, curve) for name, curve in curves.items()),
        f"{seconds['perturbing'] / total * 1e3:.3f}",
        f"{seconds['evaluation'] / floor:.2f}",
        f"{seconds['LRP'] / both:.2f}",
        f"{2 * MATRIX_SIDE**3 / seconds['matrices'] / 1e9:.0f}",
    ]


class FirstPixels(nn.Module):
    """A network that takes no time beside making the images that it sees."""

    def forward(self, images: Tensor) -> Tensor:
        """Ten pixels (N, 10) as logits, below zero so that nobody takes them for probabilities."""
        return images[:, 0, 0, :10] - 1


def evaluations(model: nn.Module, images: Tensor) -> dict[str, Callable[[], object]]:
    """A default evaluation, the heatmap in it, and what that cannot do without."""
    protocol = PerturbationProtocol(
        REGION_SIZES[images.shape[-1]], STEPS, (0.0, 1.0), sampled_steps=SUGGESTED_SAMPLED_STEPS
    )
    lrp = heatmaps.get("lrp")
    target = torch.zeros(len(images), dtype=torch.long, device=images.device)
    last = images.contiguous(memory_format=torch.channels_last)
    return {
        "evaluation": partial(evaluate, model, images, None, {"lrp": lrp}, protocol, 0),
        "LRP": partial(lrp, model, images, target),
        "both first": partial(forward_and_backward, model, images),
        "both last": partial(forward_and_backward, model, last),
    }


def forward_and_backward(model: nn.Module, images: Tensor) -> None:
    """The gradient of a class of each image with respect to its pixels."""
    images = images.clone().requires_grad_()
    torch.autograd.grad(model(images)[:, 0].sum(), images)


def bare_runs(model: nn.Module, images: Tensor, total: int) -> dict[str, Callable[[], object]]:
    """Forwards of the bare network by layout and batch size."""
    layouts = {"first": torch.contiguous_format, "last": torch.channels_last}
    return {
        f"{label} {n}": partial(
            bare_forwards, model, images[:n].contiguous(memory_format=layout), total
        )
        for label, layout in layouts.items()
        for n in BATCH_SIZES[images.shape[-1]]
    }


def flops_of(model: nn.Module, images: Tensor) -> int:
    """Multiplications and additions in products and convolutions of a forward."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images)
    return int(counter.get_total_flops())


def cell(curve: Curve, ratio: float, default: Tensor) -> str:
    """The ratio and, where it differs, how far the AOPC is from that of the defaults."""
    difference = float((curve.value - default).abs().max())
    return f"{ratio:.2f}" if difference == 0 else f"{ratio:.2f} (AOPC ± {difference:.0e})"


@dataclass
class Curve:
    """A full perturbation curve, in an order that costs nothing.

    Attributes:
        model: the network.
        images: (N, 3, H, W).
        execution: how forwards are carried out.
        replacement: what regions become; what is usual if not given.
    """

    model: nn.Module
    images: Tensor
    execution: Execution
    replacement: Replacement | None = None

    def __post_init__(self) -> None:
        self.metric = AOPC(
            region_size=REGION_SIZES[self.images.shape[-1]],
            steps=STEPS,
            data_range=(0.0, 1.0),
            replacement=self.replacement,
            execution=self.execution,
        )
        self.value = torch.zeros(())

    @property
    def forwards(self) -> int:
        """Images that go through the network."""
        return self.metric.protocol.forwards(len(self.images), 1)

    def measured(self) -> Tensor:
        """The AOPC."""
        self()
        return self.value

    def __call__(self) -> None:
        """Measure once."""
        self.metric.reset()
        self.metric.update(self.model, self.images, self.images.mean(dim=1))
        self.value = self.metric.compute()


def bare_forwards(model: nn.Module, images: Tensor, total: int) -> None:
    """The network and nothing else, for so many images that it takes as long as a curve."""
    with torch.inference_mode():
        for start in range(0, total, len(images)):
            model(images[: total - start])


if __name__ == "__main__":
    main()
