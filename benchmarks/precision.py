"""How precise an AOPC is for how many forwards: sampled steps, repeats, fresh noise, pairing.

    python -m benchmarks.precision --image-folder DIR

prints tables, measured on test images and a small network that is trained on the others (and kept
in runs/benchmarks): (1) standard deviation of an image's AOPC and bias by sampled steps J and
repeats; (2) forwards saved against the paper's protocol (all steps, ten repeats, one noise image
for all steps of a repeat) for a population of images, for fixed images, and for the difference of
two checkpoints; (3) the same at 224 x 224 pixels, 100 steps, region 9: the images enlarged, and the
network preceded by a layer that averages them back.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aopc_monitor import (
    Execution,
    MeanAndError,
    area_over_perturbation_curve,
    heatmaps,
    normalized_data_range,
)
from aopc_monitor.heatmaps import Heatmap
from aopc_monitor.perturbation import DataRange, Uniform
from benchmarks.timing import machine
from benchmarks.trained import trained
from recipes.shared.arguments import (
    add_data_arguments,
    add_trainer_arguments,
    chosen_data,
    data_folder,
)
from recipes.shared.heatmap_study import normalised, spread_over_classes
from recipes.shared.reporting.markdown import markdown_table

REPEATS = 10  # of the paper
EPOCHS = 4
SAMPLED = (1, 2, 4, 5, 8, 16)
SEEDS = 4


@dataclass
class Subject:
    """What is measured: images and the networks that see them.

    Attributes:
        networks: two checkpoints of one training, the later one first.
        images: (N, 3, H, W).
        data_range: of the images.
        region_size: side of the regions in pixels.
        steps: L.
    """

    networks: Sequence[nn.Module]
    images: Tensor
    data_range: DataRange
    region_size: int
    steps: int

    def __post_init__(self) -> None:
        self._maps = [self._explain(network) for network in self.networks]

    def _explain(self, network: nn.Module) -> Tensor:
        """(N, H, W) LRP of the predicted classes."""
        make: Heatmap = heatmaps.get("lrp")
        maps = []
        for images in self.images.split(32):
            with torch.no_grad():
                target = network(images).argmax(dim=1)
            maps.append(make(network, images, target).detach())
        return torch.cat(maps)

    def areas(
        self,
        seed: int,
        sampled_steps: int | None = None,
        repeats: int = 1,
        fresh: bool = True,
        checkpoint: int = 0,
        autocast: torch.dtype | None = None,
    ) -> Tensor:
        """(N,) AOPC of each image; the same draws for the same seed, whatever the checkpoint."""
        return area_over_perturbation_curve(
            self.networks[checkpoint],
            self.images,
            self._maps[checkpoint],
            region_size=self.region_size,
            steps=self.steps,
            data_range=self.data_range,
            replacement=Uniform(fresh_each_step=fresh),
            repeats=repeats,
            sampled_steps=sampled_steps,
            execution=Execution(64, autocast=autocast),
            generator=torch.Generator().manual_seed(seed),
        ).per_image


class Shrinking(nn.Module):
    """A network for small images that averages large ones to their size.

    Args:
        network: the network.
        size: height and width of its images.
    """

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, images: Tensor) -> Tensor:
        """Outputs (N, classes)."""
        outputs: Tensor = self.network(F.adaptive_avg_pool2d(images, self.size))
        return outputs


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_data_arguments(parser)
    parser.add_argument("--network", default="small_cnn")
    parser.add_argument("--num-images", type=int, default=300, help="at 32 x 32 pixels")
    parser.add_argument("--num-large", type=int, default=40, help="at 224 x 224 pixels")
    add_trainer_arguments(parser)
    options = parser.parse_args(arguments)
    data = chosen_data(options)
    folder = data_folder(Path("runs") / "benchmarks", data)
    networks = trained(data, options, EPOCHS, folder)
    rows = spread_over_classes(data.test.labels, options.num_images, seed=0)
    images, data_range = normalised(data, rows), normalized_data_range(data.mean, data.std)
    pair = (networks[-1], networks[-2])
    small = Subject(pair, images, data_range, 4, 32)
    large = Subject(
        [Shrinking(network, data.image_size).eval() for network in pair],
        F.interpolate(images[: options.num_large], size=224, mode="nearest"),
        data_range,
        9,
        100,
    )
    print(f"{data.name}, {options.network}, {EPOCHS} epochs; {machine('torchvision')}\n")
    print(title("Spread and bias by sampled steps and repeats", small))
    print(by_sampled_steps(small), flush=True)
    print(f"\n{of_half_precision(small)}")
    for subject in (small, large):
        print(title("Forwards saved against the paper's protocol", subject))
        print(saved(subject), flush=True)


def title(text: str, subject: Subject) -> str:
    """The title of a table: what it is about, and on which images."""
    side, size = subject.images.shape[-1], subject.region_size
    return (
        f"\n**{text}**: {len(subject.images)} images of {side} x {side}, regions of {size} x "
        f"{size}, {subject.steps} steps\n"
    )


def by_sampled_steps(subject: Subject) -> str:
    """Standard deviation over images and bias, for each J and repeats."""
    truth = torch.stack([subject.areas(1000 + seed, repeats=4) for seed in range(SEEDS)]).mean(0)
    rows = []
    for sampled in (*SAMPLED, None):
        for repeats in (1, 4):
            found = torch.stack([subject.areas(seed, sampled, repeats) for seed in range(SEEDS)])
            own = (found - truth).square().mean().sqrt()
            bias = MeanAndError.of((found - truth).mean(dim=0))
            rows.append(
                [
                    "all" if sampled is None else sampled,
                    repeats,
                    1 + (sampled or subject.steps) * repeats,
                    f"{float(found.std(dim=1).mean()):.4f}",
                    f"{float(own):.4f}",
                    f"{bias.mean:+.4f} ± {bias.sem:.4f}",
                ]
            )
    header = ["J", "repeats", "forwards an image", "spread over images", "own error", "bias ± SEM"]
    return markdown_table(header, rows)


def saved(subject: Subject) -> str:
    """Standard errors relative to those of the paper's protocol, and forwards saved."""
    steps = subject.steps
    paper = 1 + steps * REPEATS
    once = [subject.areas(0, repeats=REPEATS, fresh=False, checkpoint=c) for c in (0, 1)]
    single = own_error([subject.areas(100 + s, fresh=False) for s in range(SEEDS)])
    rows = []
    for sampled in (2, 4, 5, None):
        first, second = (subject.areas(7, sampled, checkpoint=c) for c in (0, 1))
        own = own_error([subject.areas(200 + s, sampled) for s in range(SEEDS)])
        forwards = 1 + (sampled or steps)
        rows.append(
            [
                "all, fresh noise" if sampled is None else f"J = {sampled}",
                f"{paper / forwards:.0f}",
                f"{float(first.std() / once[0].std()):.3f}",
                # The error of a mean of independent repeats falls with the root of their number.
                f"{own / (single / REPEATS**0.5):.2f}",
                f"{float((first - second).std() / (once[0] - once[1]).std()):.3f}",
            ]
        )
    header = [
        "estimate", "times fewer forwards", "SEM over a population", "error for fixed images",
        "SEM of the difference of two checkpoints",
    ]  # fmt: skip
    return markdown_table(header, rows)


def of_half_precision(subject: Subject) -> str:
    """A line: what bfloat16 does to the AOPC of the same images under the same draws."""
    exact, half = (subject.areas(0, 4, autocast=dtype) for dtype in (None, torch.bfloat16))
    change = MeanAndError.of(half - exact)
    return (
        f"In bfloat16 the AOPC is {half.mean():.4f} instead of {exact.mean():.4f}: the mean change "
        f"{change.mean:+.4f} ± {change.sem:.4f}, that of an image {(half - exact).abs().mean():.4f}"
    )


def own_error(repeated: Sequence[Tensor]) -> float:
    """Root mean square error of an image's AOPC that is not the image's own: over seeds."""
    return float(torch.stack(list(repeated)).var(dim=0).mean().sqrt())


if __name__ == "__main__":
    main()
