"""Every heatmap of the library on a few test images of a network trained on the spot.

python -m recipes.heatmap_gallery                       # digits, nothing is downloaded
python -m recipes.heatmap_gallery --dataset cifar10     # downloads CIFAR-10
python -m recipes.heatmap_gallery --image-folder DIR    # a train/ + test/ tree of images
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from aopc_monitor import heatmaps, normalized_data_range
from aopc_monitor.figures import heatmap_gallery
from recipes.arguments import add_data_arguments, chosen_data
from recipes.classifier import ImageClassifier
from recipes.datasets import ImageData


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line to settings."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.heatmap_gallery",
        description="Draw all heatmaps of a few images, for the class that the network predicts.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_data_arguments(parser)
    parser.add_argument("--heatmaps", nargs="+", default=heatmaps.names(), metavar="NAME")
    parser.add_argument("--num-images", type=int, default=8)
    parser.add_argument("--max-epochs", type=int, help="chosen for the data set if not given")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--weights", type=Path, help="used if the file exists, else written")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs/heatmap_gallery.png"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Train, explain, draw."""
    options = parse_arguments(arguments)
    pl.seed_everything(options.seed, verbose=False)
    data = chosen_data(options)
    model = trained(data, options)
    images, labels = images_of_different_classes(data, options.num_images)
    predicted = model.eval()(images).argmax(dim=1)
    data_range = normalized_data_range(data.mean, data.std)
    maps = {}
    for name in options.heatmaps:
        heatmap = heatmaps.with_data_range(heatmaps.get(name), data_range)
        maps[name] = heatmap(model, images, predicted).numpy()
    titles = [
        data.classes[p] if p == label else f"{data.classes[p]}\n(is {data.classes[label]})"
        for p, label in zip(predicted.tolist(), labels, strict=True)
    ]
    figure = heatmap_gallery(pixels(data, images).numpy(), maps, titles)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output)
    print(f"figure   {options.output}")
    path: Path = options.output
    return path


def trained(data: ImageData, options: argparse.Namespace) -> ImageClassifier:
    """The small classifier, trained on the data or read from a file."""
    model = ImageClassifier(len(data.classes), data.plan.learning_rate)
    if options.weights is not None and options.weights.exists():
        model.load_state_dict(torch.load(options.weights, weights_only=True))
        return model
    train = DataLoader(data.train, batch_size=data.plan.batch_size, shuffle=True, drop_last=True)
    trainer = pl.Trainer(
        max_epochs=options.max_epochs or data.plan.max_epochs,
        accelerator=options.accelerator,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(model, train, DataLoader(data.test, batch_size=250))
    print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})
    if options.weights is not None:
        torch.save(model.state_dict(), options.weights)
    return model.cpu()


def images_of_different_classes(data: ImageData, count: int) -> tuple[Tensor, list[int]]:
    """The first test image of each of the first classes, and their labels."""
    found: dict[int, Tensor] = {}
    for index in range(len(data.test)):
        image, label = data.test[index]
        found.setdefault(label, image)
    labels = sorted(found)[:count]
    return torch.stack([found[label] for label in labels]), labels


def pixels(data: ImageData, images: Tensor) -> Tensor:
    """Normalised (N, 3, H, W) images as (N, H, W, 3) from 0 to 1."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
    return (images * std + mean).clamp(0, 1).permute(0, 2, 3, 1)


if __name__ == "__main__":
    main()
