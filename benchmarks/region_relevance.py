"""The relevance of a region of one's own: the mean of the heatmap over it, or the sum?

    pip install -e ".[photographs]"
    python -m benchmarks.region_relevance

trains the recipes' small network on digits on clutter (weights are kept in runs/benchmarks), cuts
test images into superpixels, and prints AOPC of two heatmaps and of a constant one, which knows
nothing, under both. A sum puts large regions first, whatever the heatmap says.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from skimage.segmentation import slic
from torch import Tensor, nn

from aopc_monitor import estimate_aopc, normalized_data_range
from aopc_monitor.heatmaps import Heatmap
from benchmarks.timing import machine
from benchmarks.trained import accuracy_of, trained
from recipes.shared.arguments import add_trainer_arguments, data_folder
from recipes.shared.data.datasets import digits
from recipes.shared.data.labelled_images import ImageData
from recipes.shared.heatmap_study import normalised, spread_over_classes
from recipes.shared.reporting.markdown import markdown_table, z_text

EPOCHS = 8
SEGMENTS, STEPS = 30, 20
BATCH_SIZE = 100
RELEVANCES: tuple[Literal["mean", "sum"], ...] = ("mean", "sum")


def constant(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    """A heatmap that knows nothing."""
    return torch.ones_like(images[:, 0])


HEATMAPS: dict[str, str | Heatmap] = {
    "lrp": "lrp",
    "sensitivity_l2": "sensitivity_l2",
    "constant": constant,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", default="small_cnn")
    parser.add_argument("--num-images", type=int, default=200, help="of the test images")
    add_trainer_arguments(parser)
    options = parser.parse_args(arguments)
    data = digits(options.seed)
    folder = data_folder(Path("runs") / "benchmarks", data)
    network = trained(data, options, options.max_epochs or EPOCHS, folder)[-1]
    images = normalised(data, spread_over_classes(data.test.labels, options.num_images, 0))
    cut = partial(superpixels, data=data)
    print(f"\n{options.network}, accuracy {accuracy_of(network, data):.3f}; {machine()}")
    print(f"{len(images)} images, {about(cut(images))}, {STEPS} steps, uniform noise\n")
    print(table(network, images, data, cut))


def table(network: nn.Module, images: Tensor, data: ImageData, cut: Any) -> str:
    """AOPC of each heatmap and its gain, under both."""
    choices: dict[str, Any] = {
        "steps": STEPS,
        "data_range": normalized_data_range(data.mean, data.std),
        "sampled_steps": None,
        "regions": cut,
    }
    batches, rows = images.split(BATCH_SIZE), []
    for name, heatmap in HEATMAPS.items():
        found = [
            estimate_aopc(network, batches, heatmap, region_relevance=of, **choices)
            for of in RELEVANCES
        ]
        gains = [cell for one in found for cell in (one.gain, z_text(one.gain))]
        rows.append([name, *(one.aopc for one in found), *gains])
    columns = [text for of in RELEVANCES for text in (f"{of} minus random", "z")]
    return markdown_table(["heatmap", *(f"AOPC, {of}" for of in RELEVANCES), *columns], rows)


def superpixels(images: Tensor, data: ImageData) -> Tensor:
    """(N, H, W) SLIC segments of images as the network sees them, numbered from 0."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
    pixels = (images * std + mean).permute(0, 2, 3, 1).numpy()
    segments = [slic(image, n_segments=SEGMENTS, start_label=0) for image in pixels]
    return torch.stack([torch.as_tensor(of_image) for of_image in segments])


def about(segments: Tensor) -> str:
    """How many superpixels an image has, and how much their sizes vary.

    Example:
        >>> about(torch.tensor([[[0, 0], [0, 1]], [[0, 1], [0, 1]]]))
        '2 to 2 superpixels an image, whose sizes vary by 0.35 of their mean'
    """
    sizes = [of_image.flatten().bincount().double() for of_image in segments]
    spread = sum(float(of_image.std() / of_image.mean()) for of_image in sizes) / len(sizes)
    counts = [len(of_image) for of_image in sizes]
    return (
        f"{min(counts)} to {max(counts)} superpixels an image, whose sizes vary by {spread:.2f} of "
        "their mean"
    )


if __name__ == "__main__":
    main()
