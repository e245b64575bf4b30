"""Fig. 6 of Samek et al. 2017: what do the heatmaps of a few test images look like?

python -m recipes.heatmap_gallery                       # digits, nothing is downloaded
python -m recipes.heatmap_gallery --dataset cifar10     # downloads CIFAR-10
python -m recipes.heatmap_gallery --image-folder DIR    # a train/ + test/ tree of images
python -m recipes.heatmap_gallery --image-folder DIR --image-size 224 --network resnet18 \
    --pretrained                                        # nothing is trained
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from aopc_monitor.figures import heatmap_gallery
from aopc_monitor.heatmaps import Heatmap
from recipes.shared.arguments import command_line
from recipes.shared.data.labelled_images import ImageData
from recipes.shared.freed_memory import keep_all_freed_memory
from recipes.shared.heatmap_blocks import Blocks, measured
from recipes.shared.heatmap_study import (
    Study,
    add_study_arguments,
    known_names,
    normalised,
    predicted_classes,
    spread_over_classes,
    study_options,
)
from recipes.shared.reporting.markdown import markdown_table

PREDICTION = "prediction"
IMAGES_FOR_ACCURACY = 1000
_BLOCK_SIZE = 100


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line to settings."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.heatmap_gallery",
        description="Draw the heatmaps of a few images, for the class that the network predicts.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_study_arguments(parser, num_images=8, default=known_names())
    return study_options(parser, arguments)


def main(arguments: Sequence[str] | None = None) -> Path | None:
    """Train or read the network, explain, draw; None on other processes than the first."""
    options = parse_arguments(arguments)
    study = Study.of(options, "heatmap_gallery")
    network, folder = study.network, study.folder / "blocks"
    rows = spread_over_classes(study.data.test.labels, IMAGES_FOR_ACCURACY, options.seed)
    many = Blocks(study.data, rows, _BLOCK_SIZE)
    accuracy = measured(network, Explanation({}), many, folder, options)
    shown = Blocks(study.data, study.rows, len(study.rows))
    explained = measured(network, Explanation(study.heatmaps), shown, folder, options)
    if accuracy is None or explained is None:
        return None
    predicted = accuracy.collected(PREDICTION)["predicted"]
    gallery = Gallery(
        study,
        {name: explained.collected(name)["relevance"] for name in study.heatmaps},
        explained.collected(PREDICTION)["predicted"],
        replace(study, rows=rows).settings(options, predicted),
        command_line("recipes.heatmap_gallery", arguments),
    )
    gallery.write()
    print(f"figure   {study.folder / 'gallery.png'}")
    print(f"report   {study.folder / 'report.md'}")
    return study.folder


@dataclass(frozen=True)
class Explanation:
    """Predicts, and makes the heatmaps of the predicted class.

    Attributes:
        heatmaps: by name.
    """

    heatmaps: Mapping[str, Heatmap]

    @property
    def parts(self) -> dict[str, str]:
        """One part for each heatmap, and one for the prediction."""
        return {PREDICTION: "", **{name: str(make) for name, make in self.heatmaps.items()}}

    def __call__(
        self, network: nn.Module, images: Tensor, parts: Sequence[str]
    ) -> dict[str, dict[str, Tensor]]:
        """Predict and explain a block of images (N, 3, H, W).

        Returns:
            By part "relevance" (N, H, W), or "predicted" (N,).
        """
        predicted = predicted_classes(network, images)
        found = {}
        for part in parts:
            if part == PREDICTION:
                found[part] = {"predicted": predicted.cpu()}
            else:
                relevance = self.heatmaps[part](network, images, predicted)
                found[part] = {"relevance": relevance.detach().cpu()}
        return found


@dataclass(frozen=True)
class Gallery:
    """What is shown.

    Attributes:
        study: the images.
        maps: (N, H, W) by heatmap.
        predicted: (N,) the explained classes.
        settings: of the report; those of the images on which the accuracy was found.
        command: that makes the gallery again.
    """

    study: Study
    maps: Mapping[str, Tensor]
    predicted: Tensor
    settings: Mapping[str, object]
    command: str

    def write(self) -> None:
        """Write gallery.png and report.md."""
        data, folder = self.study.data, self.study.folder
        maps = {name: relevance.numpy() for name, relevance in self.maps.items()}
        title = f"{data.name}, {self.settings['network']}"
        images = pixels(data, normalised(data, self.study.rows)).numpy()
        figure = heatmap_gallery(images, maps, self.captions(), title)
        figure.savefig(folder / "gallery.png")
        (folder / "report.md").write_text(self.text(title), encoding="utf-8")

    def captions(self) -> list[str]:
        """The predicted class of each image, and below it the true one where it is another."""
        is_wrong = (self.study.labels >= 0) & (self.study.labels != self.predicted)
        return [
            f"{image['predicted']}" + (f"\n(is {image['label']})" if wrong else "")
            for image, wrong in zip(
                self.study.images_of(self.predicted), is_wrong.tolist(), strict=True
            )
        ]

    def text(self, title: str) -> str:
        """The report in Markdown."""
        images = self.study.images_of(self.predicted)
        parts = [
            f"# Heatmaps of {title}",
            "![Test images and their heatmaps](gallery.png)",
            "Fig. 6 of Samek et al. 2017: heatmaps of the predicted class. Red speaks for it, blue "
            "against it, white is zero; methods without signs go from white to red. Each heatmap "
            "has its own scale. `lrp` is LRP-epsilon with epsilon 0.01.",
            markdown_table(list(images[0]), [list(image.values()) for image in images]),
            "The accuracy was found on more images than are shown:",
            markdown_table(["setting", "value"], list(self.settings.items())),
            f"```bash\n{self.command}\n```",
        ]
        return "\n\n".join(parts) + "\n"


def pixels(data: ImageData, images: Tensor) -> Tensor:
    """Normalised (N, 3, H, W) images as (N, H, W, 3) from 0 to 1."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
    return (images * std + mean).clamp(0, 1).permute(0, 2, 3, 1)


if __name__ == "__main__":
    keep_all_freed_memory()
    main()
