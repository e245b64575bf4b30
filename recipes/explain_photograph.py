"""What does a trained network see in a photograph, and does its heatmap find it?

python -m recipes.explain_photograph              # a cup of coffee that comes with scikit-image
python -m recipes.explain_photograph FILE         # a photograph of yours
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aopc_monitor import AOPCResult, area_over_perturbation_curve, heatmaps, normalized_data_range
from aopc_monitor.figures import PAGE, Line, heatmap_gallery, perturbation_curves
from aopc_monitor.heatmaps import Heatmap, LRPEpsilon
from aopc_monitor.perturbation import Order
from recipes.shared.data.photographs import photographs, unlabelled
from recipes.shared.freed_memory import keep_all_freed_memory
from recipes.shared.training.efficientnet_lite import IMAGENET_MEAN, IMAGENET_STD
from recipes.shared.training.pretrained import categories_of, pretrained

NETWORK, IMAGE_SIZE, REGION_SIZE = "efficientnet_lite0", 224, 9
# What is shown without a file: the fourth of the photographs of scikit-image.
COFFEE = 3
# The epsilon that does best on this network, among those that the paper compares.
EPSILON_1: dict[str, Heatmap] = {"lrp_epsilon_1": LRPEpsilon(epsilon=1.0)}
SHOWN = ("lrp_epsilon_1", "grad_cam", "sensitivity_l2")
DATA_RANGE = normalized_data_range(IMAGENET_MEAN, IMAGENET_STD)
# Draws of noise, and of random orders. Each evaluates one step, drawn at random, of each part of
# the curve: all steps of one draw would take longer, and tell no error.
DRAWS, PARTS = 4, 20
MOST, RANDOM = "most relevant first", "random order"
ORDERS: dict[str, Order] = {MOST: "morf", RANDOM: "random", "least relevant first": "lerf"}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line to settings."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.explain_photograph",
        description=f"Explain what {NETWORK}, trained on ImageNet, predicts for a photograph.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    known = sorted([*EPSILON_1, *heatmaps.names()])
    parser.add_argument(
        "file", nargs="?", type=Path, help="photograph; one of scikit-image if not given"
    )
    parser.add_argument(
        "--heatmaps",
        nargs="+",
        default=list(SHOWN),
        choices=known,
        metavar="NAME",
        help=f"the first is perturbed; of {', '.join(known)}",
    )
    parser.add_argument(
        "--steps", type=int, default=100, help=f"regions of {REGION_SIZE} pixels that are perturbed"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/explain_photograph"))
    options = parser.parse_args(arguments)
    most = (IMAGE_SIZE // REGION_SIZE) ** 2
    if options.steps % PARTS or not PARTS <= options.steps <= most:
        parser.error(f"--steps {options.steps} must be a multiple of {PARTS}, at most {most}")
    return options


def main(arguments: Sequence[str] | None = None) -> Path:
    """Explain a photograph, perturb it, and tell what was found.

    Raises:
        SystemExit: for a file that is missing or no image, and where the extra is not installed.
    """
    options = parse_arguments(arguments)
    try:
        name, image = photograph(options.file)
        network = pretrained(NETWORK, 1000, IMAGENET_MEAN, IMAGENET_STD).eval()
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        raise SystemExit(str(error)) from error
    found = Found.of(network, image, options.heatmaps, options.steps)
    folder = options.output / name
    folder.mkdir(parents=True, exist_ok=True)
    print(found.text())
    for what, figure in (("heatmaps", found.gallery()), ("curve", found.curves())):
        figure.savefig(folder / f"{what}.png")
        print(f"{what:<12} {folder / f'{what}.png'}")
    return folder


def photograph(file: Path | None) -> tuple[str, Tensor]:
    """A photograph as the network sees it, and what it is called.

    Args:
        file: the photograph; one of scikit-image's if not given.

    Returns:
        A name, and (1, 3, H, W), normalised as ImageNet's images.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no image.
        ModuleNotFoundError: if no file is given and scikit-image is not installed.
    """
    if file is None:
        return "coffee", photographs(IMAGE_SIZE).test[COFFEE][0][None]
    if not file.exists():
        raise FileNotFoundError(f"there is no photograph {str(file)!r}: give the path of a file")
    return file.stem, unlabelled(file.name, [file], IMAGE_SIZE).test[0][0][None]


@dataclass(frozen=True)
class Found:
    """What was found of a photograph.

    Attributes:
        image: (1, 3, H, W), normalised.
        label: the predicted class.
        probability: of that class.
        maps: heatmaps of that class, (1, H, W) by name.
        orders: what came of perturbing the photograph in each order, by its name.
    """

    image: Tensor
    label: str
    probability: float
    maps: Mapping[str, Tensor]
    orders: Mapping[str, AOPCResult]

    @classmethod
    def of(cls, network: nn.Module, image: Tensor, names: Sequence[str], steps: int) -> Found:
        """Predict, explain, and perturb by the first heatmap.

        Args:
            network: in eval mode.
            image: (1, 3, H, W), normalised.
            names: of the heatmaps.
            steps: how many regions are perturbed.
        """
        with torch.no_grad():
            probability, target = network(image).softmax(dim=1).max(dim=1)
        maps = {name: _heatmap(name)(network, image, target) for name in names}
        orders = perturbed(network, image, maps[names[0]], target, steps)
        label = categories_of(NETWORK)[int(target)]
        return cls(image, label, float(probability), maps, orders)

    def text(self) -> str:
        """What is printed."""
        by_heatmap, by_chance = (_told(self.orders[order]) for order in (MOST, RANDOM))
        return (
            f"class        {self.label}, probability {self.probability:.3f}\n"
            f"AOPC         {by_heatmap} by {next(iter(self.maps))}, "
            f"{by_chance} in random order (± standard error over {DRAWS} draws)"
        )

    def gallery(self) -> Any:
        """The photograph and its heatmaps side by side, a matplotlib Figure."""
        mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        pixels = (self.image * std + mean).clamp(0, 1).permute(0, 2, 3, 1).numpy()
        maps = {name: relevance.detach().numpy() for name, relevance in self.maps.items()}
        title = f"{self.label}, probability {self.probability:.2f}"
        style = replace(PAGE, tile=2.0)
        return heatmap_gallery(pixels, maps, [""], title, style, across=True)

    def curves(self) -> Any:
        """Probability over perturbed regions, a matplotlib Figure."""
        lines = {order: line_of(result, order == RANDOM) for order, result in self.orders.items()}
        panel = {next(iter(self.maps)): lines}
        below = f"regions of {REGION_SIZE} x {REGION_SIZE} pixels perturbed"
        return perturbation_curves(panel, "probability", self.label, below=below)


def line_of(result: AOPCResult, is_control: bool) -> Line:
    """The curve: in the middle of each part its mean over draws, and the standard error of that.

    Args:
        result: of `DRAWS` draws of one photograph, each with one step of each of `PARTS` parts.
        is_control: whether the order is random.
    """
    in_parts = result.curves[:, 1:].reshape(DRAWS, PARTS, -1)
    size = in_parts.shape[2]
    values, errors = torch.full((2, result.curves.shape[1]), torch.nan)
    values[0], errors[0] = result.curves[0, 0], 0.0
    found = in_parts.nanmean(dim=2).float()
    values[(size + 1) // 2 :: size] = found.mean(dim=0)
    errors[(size + 1) // 2 :: size] = found.std(dim=0) / DRAWS**0.5
    return Line(values.tolist(), errors.tolist(), is_control)


def perturbed(
    network: nn.Module, image: Tensor, heatmap: Tensor, target: Tensor, steps: int
) -> dict[str, AOPCResult]:
    """The photograph perturbed in three orders, by the name of each.

    Args:
        network: in eval mode.
        image: (1, 3, H, W), normalised.
        heatmap: (1, H, W).
        target: (1,) explained class.
        steps: how many regions are perturbed.
    """
    copies = [whole.expand(DRAWS, *whole.shape[1:]) for whole in (image, heatmap, target)]
    return {
        name: area_over_perturbation_curve(
            network,
            *copies[:2],
            region_size=REGION_SIZE,
            steps=steps,
            sampled_steps=PARTS,
            data_range=DATA_RANGE,
            order=order,
            target=copies[2],
        )
        for name, order in ORDERS.items()
    }


def _heatmap(name: str) -> Heatmap:
    return heatmaps.with_data_range(EPSILON_1.get(name) or heatmaps.get(name), DATA_RANGE)


def _told(result: AOPCResult) -> str:
    return f"{float(result.mean):.3f} ± {float(result.sem):.3f}"


if __name__ == "__main__":
    keep_all_freed_memory()
    main()
