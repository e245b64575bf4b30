"""The same area by Quantus' RegionPerturbation and PixelFlipping: values, and wall time.

    pip install -e ".[benchmarks]"
    python -m benchmarks.against_quantus

Both evaluate the same network, images, heatmaps, regions and steps. First with regions that become
a constant, where the two definitions agree, so that the values must: Quantus gives the drops at
steps 1 ... L, and AOPC is their sum divided by L + 1. Then the wall time with uniform noise, all
steps, one repeat, and of sampled steps beside it; Quantus draws one number per region there, ours
one per pixel and channel. All run in turns in one process; the quickest turn of each counts. Where
the extra fast-cpu is installed, ours are told with OpenVINO, too, of a network that was converted
before: benchmarks.forward_cost tells how long that takes.

Quantus leaves a region as it was replaced first, which is eq. 11 as it is written; by default ours
draw noise of their own for each step. "Noise kept" is eq. 11, too, and of these columns the one of
Quantus' definition. A step then changes a region and nothing else, so that incremental forwards,
which compute only what it changes, are of use there and nowhere else in the table.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import quantus
import torch
import torchvision
from torch import Tensor, nn

from aopc_monitor import AOPC, Execution
from aopc_monitor.network import is_installed
from aopc_monitor.perturbation import Constant, Uniform
from benchmarks.timing import machine, quickest
from recipes.shared.reporting.markdown import markdown_table
from recipes.shared.training.networks import SMALL, build

# Network, side of the images and of the regions, steps, images.
CASES = (
    ("small_cnn", 32, 4, 32, 64),
    ("alexnet", 216, 9, 100, 16),
    ("resnet18", 216, 9, 100, 8),
)
CONSTANT = 0.5
LOGIT_SPREAD = 3.0
SAMPLED_STEPS = 4
OURS: dict[str, dict[str, Any]] = {
    "all steps": {},
    f"{SAMPLED_STEPS} sampled steps": {"sampled_steps": SAMPLED_STEPS},
}
# Regions stay as they were replaced first, as Quantus leaves them.
KEPT: dict[str, Any] = {"replacement": Uniform(fresh_each_step=False)}
# What carries our forwards out, by the ending of a column's name.
WAYS = {"": "eager", " (fused)": "fused"}
if is_installed("openvino"):
    WAYS[" (OpenVINO)"] = "openvino"


@dataclass(frozen=True)
class Case:
    """What both evaluate.

    Attributes:
        model: the network; softmax is left to each.
        images: (N, C, H, W), whose sides regions divide: Quantus counts from padded borders.
        maps: (N, H, W).
        region_size: side of a region in pixels.
        steps: L.
    """

    model: nn.Module
    images: Tensor
    maps: Tensor
    region_size: int
    steps: int

    @classmethod
    def of(
        cls,
        network: str,
        side: int,
        region_size: int,
        steps: int,
        count: int,
        device: str = "cpu",
    ) -> Case:
        """With random weights and images, and a heatmap that costs nothing."""
        torch.manual_seed(0)
        is_small = network in SMALL
        model = build(network, 10, side) if is_small else torchvision.models.get_model(network)
        # The layout is torch's; the recipes' own networks come with another one.
        model = model.eval().to(memory_format=torch.contiguous_format)
        images = torch.rand(count, 3, side, side).to(device)
        return cls(
            decided(model.to(device), images), images, images.mean(dim=1), region_size, steps
        )

    def ours(self, **choices: Any) -> Tensor:
        """AOPC."""
        settings: dict[str, Any] = {"region_size": self.region_size, "steps": self.steps, **choices}
        metric = AOPC(data_range=(0.0, 1.0), **settings)
        metric.update(self.model, self.images, self.maps)
        return metric.compute()

    def theirs(self, **choices: Any) -> float:
        """AOPC from the drops that RegionPerturbation returns."""
        metric = quantus.RegionPerturbation(
            patch_size=self.region_size,
            regions_evaluation=self.steps,
            normalise=False,
            disable_warnings=True,
            **choices,
        )
        drops = torch.from_numpy(np.stack(self._call(metric)))
        return float(drops.sum(dim=1).mean() / (self.steps + 1))

    def pixel_flipping(self) -> float:
        """AOPC of single pixels of all channels at once, from the scores that it returns."""
        metric = quantus.PixelFlipping(
            features_in_step=self.region_size,
            normalise=False,
            perturb_baseline=CONSTANT,
            disable_warnings=True,
        )
        scores = torch.from_numpy(np.stack(self._call(metric)))
        with torch.no_grad():
            clean = self.model(self.images).softmax(dim=1).amax(dim=1)
        return float((clean[:, None] - scores).sum(dim=1).mean() / (scores.shape[1] + 1))

    def _call(self, metric: Any) -> Any:
        with torch.no_grad():
            target = self.model(self.images).argmax(dim=1)
        return metric(
            model=self.model,
            x_batch=self.images.cpu().numpy(),
            y_batch=target.cpu().numpy(),
            a_batch=self.maps[:, None].cpu().numpy(),
            device=str(self.images.device),
            softmax=True,
            batch_size=len(self.images),
        )


def decided(model: nn.Module, images: Tensor) -> nn.Module:
    """The network with logits that are far enough apart, as after a training."""
    with torch.no_grad():
        spread = model(images).std(dim=1).mean()
        last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
        last.weight.mul_(LOGIT_SPREAD / spread)
        last.bias.mul_(LOGIT_SPREAD / spread)
    return model


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", module="quantus")
    print(f"{machine('torchvision', 'quantus')}\n")
    print(values(), flush=True)
    print(f"\n{times(options.turns)}")


def values() -> str:
    """A table of AOPCs where the definitions agree."""
    rows: list[list[object]] = []
    for network, side, region_size, steps, _ in CASES[:2]:
        case = Case.of(network, side, region_size, steps, count=4)
        ours = float(case.ours(replacement=Constant(CONSTANT)))
        rows.append(
            row_of_values(
                f"RegionPerturbation, {network}", ours, case.theirs(perturb_baseline=CONSTANT)
            )
        )
    torch.manual_seed(0)
    grey = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 100, 5)).eval()
    images = torch.rand(8, 1, 12, 12)
    case = Case(decided(grey, images), images, images[:, 0] ** 2, 1, 144)
    ours = float(case.ours(replacement=Constant(CONSTANT)))
    rows.append(row_of_values("PixelFlipping, a grey 12 x 12", ours, case.pixel_flipping()))
    return markdown_table(["metric, network", "ours", "Quantus", "difference"], rows)


def row_of_values(name: str, ours: float, theirs: float) -> list[object]:
    """A row of the table of values."""
    return [name, f"{ours:.6f}", f"{theirs:.6f}", f"{abs(ours - theirs):.0e}"]


def times(turns: int) -> str:
    """A table of wall times."""
    rows = []
    for network, side, region_size, steps, count in CASES:
        case = Case.of(network, side, region_size, steps, count)
        theirs = partial(case.theirs, perturb_baseline="uniform")
        contestants: dict[str, Callable[[], object]] = {"Quantus": theirs, **ours(case)}
        case.ours(execution=Execution(backend=list(WAYS.values())[-1]))  # converts the network
        seconds = quickest(contestants, turns)
        quantus_took = seconds.pop("Quantus")
        cells = [f"{own:.2f} ({quantus_took / own:.3g})" for own in seconds.values()]
        what = f"{network}, {count} images of {side} x {side}, {steps} steps"
        rows.append([what, f"{quantus_took:.2f}", *cells])
    return markdown_table(["seconds (times less than Quantus)", "Quantus", *seconds], rows)


def ours(case: Case) -> dict[str, Callable[[], object]]:
    """Our ways to measure a case, by the name of a column."""
    found: dict[str, Callable[[], object]] = {
        f"{name}{way}": partial(case.ours, **choices, execution=Execution(backend=backend))
        for way, backend in WAYS.items()
        for name, choices in OURS.items()
    }
    kept = partial(case.ours, **KEPT, execution=Execution(backend="incremental"))
    return {**found, "all steps, noise kept (incremental)": kept}


if __name__ == "__main__":
    main()
