"""How long LRP takes, beside one forward and backward pass and beside zennit.

    python -m benchmarks.heatmap_speed

prints a table of ratios. All are measured in turns in one process, so that what else the machine
does hits them alike; the quickest of several turns counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn

from aopc_monitor.heatmaps import LRPAlphaBeta, LRPEpsilon
from benchmarks.peers import ZENNIT_ALPHA2_BETA1, ZENNIT_EPSILON, zennit_lrp
from benchmarks.timing import quickest

MODELS = ("alexnet", "vgg11", "resnet18")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS, help="names of torchvision models")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    print("One forward and backward pass = 1.\n")
    print("| model | epsilon | zennit | ratio | alpha2-beta1 | zennit | ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in arguments.models:
        model = torchvision.models.get_model(name, weights=None).eval().to(arguments.device)
        images = torch.randn(arguments.images, 3, 224, 224, device=arguments.device)
        print(row_of(name, quickest(contestants(model, images), arguments.turns)), flush=True)


def contestants(model: nn.Module, images: Tensor) -> dict[str, Callable[[], object]]:
    """What is compared."""
    target = torch.zeros(len(images), dtype=torch.long, device=images.device)

    def forward_and_backward() -> None:
        entrance = images.clone().requires_grad_()
        model(entrance).gather(1, target[:, None]).sum().backward()

    return {
        "once": forward_and_backward,
        "epsilon": lambda: LRPEpsilon(0.01)(model, images, target),
        "zennit epsilon": lambda: zennit_lrp(model, images, target, ZENNIT_EPSILON),
        "alpha-beta": lambda: LRPAlphaBeta(2, -1)(model, images, target),
        "zennit alpha-beta": lambda: zennit_lrp(model, images, target, ZENNIT_ALPHA2_BETA1),
    }


def row_of(name: str, seconds: dict[str, float]) -> str:
    """A row of the table."""
    once = seconds["once"]
    cells = [name]
    for ours in ("epsilon", "alpha-beta"):
        theirs = seconds[f"zennit {ours}"]
        cells += [f"{seconds[ours] / once:.2f}", f"{theirs / once:.2f}"]
        cells.append(f"{seconds[ours] / theirs:.2f}")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
