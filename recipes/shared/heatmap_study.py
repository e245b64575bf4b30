"""What the studies of heatmaps share: which heatmaps, which images, which network."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn

from aopc_monitor import MeanAndError, heatmaps, normalized_data_range
from aopc_monitor.heatmaps import Heatmap, LRPEpsilon
from aopc_monitor.network import class_outputs, untouched
from recipes.shared.arguments import (
    add_data_arguments,
    add_network_arguments,
    add_trainer_arguments,
    check_networks,
    chosen_data,
    data_folder,
)
from recipes.shared.data.labelled_images import ImageData
from recipes.shared.data.labelled_tensors import TensorData
from recipes.shared.data.photographs import with_known_classes
from recipes.shared.heatmap_check import checked
from recipes.shared.training.fitting import trained_network
from recipes.shared.training.pretrained import categories_of

# LRP-epsilon of the paper's Fig. 4 and 8 beside `lrp`, whose epsilon is 0.01.
OTHER_EPSILONS: dict[str, Heatmap] = {
    "lrp_epsilon_1": LRPEpsilon(epsilon=1.0),
    "lrp_epsilon_100": LRPEpsilon(epsilon=100.0),
}
OF_THE_PAPER = (
    "lrp", "lrp_epsilon_1", "lrp_epsilon_100", "lrp_alpha2_beta1",
    "deconvolution_l2", "deconvolution_linf", "sensitivity_l2", "sensitivity_linf",
)  # fmt: skip
REFERENCE = "sensitivity_l2"
CHECKED_IMAGES = 2
# From best to worst, as the paper found them.
FAMILIES = ("lrp", "deconvolution", "sensitivity", "random")


def known_names() -> list[str]:
    """Names of all heatmaps that a study can be made of."""
    known = [name for name in heatmaps.names() if name != "random"]
    after = known.index("lrp") + 1
    return [*known[:after], *OTHER_EPSILONS, *known[after:]]


def add_study_arguments(
    parser: argparse.ArgumentParser, num_images: int, default: Sequence[str] = OF_THE_PAPER
) -> None:
    """Add which images, network and heatmaps, and where the results go."""
    add_data_arguments(parser, is_trained=False)
    add_network_arguments(parser, "small_resnet")
    parser.add_argument(
        "--heatmaps",
        nargs="+",
        default=list(default),
        choices=known_names(),
        metavar="NAME",
        help=f"of {', '.join(known_names())}",
    )
    parser.add_argument("--num-images", type=int, default=num_images, help="of the test images")
    parser.add_argument("--output", type=Path, default=Path("runs"))
    add_trainer_arguments(parser)


def study_options(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> argparse.Namespace:
    """The arguments of a parser that has those of a study, after a look at the network."""
    options = parser.parse_args(arguments)
    flag = "--pretrained" if options.pretrained else "--network"
    check_networks(parser, [options.network], flag, options.pretrained)
    return options


@dataclass(frozen=True)
class Study:
    """What the arguments of `add_study_arguments` name.

    Attributes:
        data: the images.
        network: in eval mode.
        rows: which test images are studied.
        heatmaps: by name.
        folder: where the results go.
        notes: what is to be known of each heatmap on this network, by name.
    """

    data: ImageData
    network: nn.Module
    rows: Tensor
    heatmaps: dict[str, Heatmap]
    folder: Path
    notes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, options: argparse.Namespace, name: str) -> Study:
        """Read the images, train or read the network.

        Args:
            options: the arguments.
            name: of the recipe; its results go to a folder of that name.

        Raises:
            ValueError: if fewer than one image is asked for, or the network does not fit, or no
                heatmap applies to it, or not the one that others are compared with.
        """
        if options.num_images < 1:
            raise ValueError(f"--num-images must be at least 1; got {options.num_images}")
        pl.seed_everything(options.seed, verbose=False)
        data = chosen_data(options)
        if options.pretrained:
            data = with_known_classes(data, categories_of(options.network))
        elif not len(data.train):
            raise ValueError(
                f"{data.name} has no images to train on: give --pretrained and a network with "
                "weights, such as --network efficientnet_lite0"
            )
        rows = spread_over_classes(data.test.labels, options.num_images, options.seed)
        found = chosen_heatmaps(options.heatmaps, normalized_data_range(data.mean, data.std))
        folder = data_folder(options.output / name, data)
        network = _network(data, options, folder)
        found, notes = _applicable(network, normalised(data, rows[:CHECKED_IMAGES]), found, options)
        return cls(data, network, rows, found, folder / _folder_name(options), notes)

    @property
    def title(self) -> str:
        """The title of figures and reports, without the network."""
        return f"{self.data.name}, {len(self.rows)} images"

    @property
    def labels(self) -> Tensor:
        """(N,) classes of the images studied."""
        return self.data.test.labels[self.rows]

    def images_of(self, predicted: Tensor) -> list[dict[str, object]]:
        """What identifies each image: its row, label and predicted class (N,)."""
        columns = (self.rows.tolist(), self.labels.tolist(), predicted.tolist())
        return [
            {"image": row, "label": self._name_of(label), "predicted": self._name_of(guess)}
            for row, label, guess in zip(*columns, strict=True)
        ]

    def _name_of(self, number: int) -> str:
        if number < 0:
            return "unknown"
        # A network may have more outputs than the images have classes.
        known = number < len(self.data.classes)
        return self.data.classes[number] if known else f"class {number}"

    def settings(self, options: argparse.Namespace, predicted: Tensor) -> dict[str, object]:
        """What a report says of the images (N,) and the network."""
        known = self.labels >= 0
        right = (self.labels == predicted)[known].double()
        accuracy = MeanAndError.of(right) if len(right) > 1 else "no labels"
        return {
            "images": f"{len(self.rows)} test images of {self.data.name}, spread over the classes",
            "size": f"{self.data.image_size} x {self.data.image_size} pixels",
            "network": f"{options.network}{', pretrained' if options.pretrained else ''}",
            "accuracy on these images": accuracy,
            "seed": options.seed,
        }


def _applicable(
    network: nn.Module, images: Tensor, makers: dict[str, Heatmap], options: argparse.Namespace
) -> tuple[dict[str, Heatmap], dict[str, str]]:
    """The heatmaps that apply to the network, and a note on each; doubts are told at once."""
    found = checked(network, images, makers)
    for name in found.doubtful:
        rank_zero_only(print)(found.notes[name])
    reference = getattr(options, "reference", None)
    if reference in makers and reference not in found.applicable:
        raise ValueError(
            f"--reference {reference} does not apply to {options.network}: choose another one of "
            f"{', '.join(found.applicable)}"
        )
    return found.applicable, found.notes


def _folder_name(options: argparse.Namespace) -> str:
    """What keeps the reports of two networks on the same images apart."""
    endings = [
        ending
        for ending, is_used in (
            ("-pretrained", options.pretrained),
            # Only one of the studies has a choice.
            ("-dropout", getattr(options, "dropout", "off") == "active"),
        )
        if is_used
    ]
    return "".join([options.network.replace(":", "."), *endings])


def _network(data: ImageData, options: argparse.Namespace, folder: Path) -> nn.Module:
    if options.weights is None:
        # A study that is started again shall not have to train again.
        images = (data.name, data.image_size, len(data.train), data.classes, data.mean, data.std)
        how = (options.network, options.seed, options.max_epochs, options.precision)
        training = digest(*images, *how)
        path = folder / f"weights_{training}.pt"
        options = argparse.Namespace(**{**vars(options), "weights": path})
    return trained_network(data, options)


def chosen_heatmaps(
    names: Sequence[str], data_range: tuple[Sequence[float], Sequence[float]]
) -> dict[str, Heatmap]:
    """Heatmaps by name, in the order of the names.

    Args:
        names: of `known_names()`.
        data_range: (low, high) of valid inputs, for the heatmaps that need it.

    Raises:
        ValueError: for an unknown name.

    Example:
        >>> chosen_heatmaps(["lrp_epsilon_1"], ([0.0], [1.0]))
        {'lrp_epsilon_1': LRPEpsilon(epsilon=1.0, relative=False)}
    """
    return {
        name: heatmaps.with_data_range(OTHER_EPSILONS.get(name) or heatmaps.get(name), data_range)
        for name in names
    }


def family(name: str) -> str | None:
    """The one of `FAMILIES` that a heatmap belongs to, or None.

    Example:
        >>> family("lrp_alpha2_beta1"), family("grad_cam")
        ('lrp', None)
    """
    return next((one for one in FAMILIES if name == one or name.startswith(f"{one}_")), None)


def spread_over_classes(labels: Tensor, count: int, seed: int) -> Tensor:
    """Rows of images to study: drawn at random, as evenly over the classes as they come.

    A larger count takes the same images first.

    Args:
        labels: (N,) classes.
        count: how many; all if there are fewer.
        seed: of the draw.

    Returns:
        (count,) row numbers, the classes in turn.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
        >>> rows = spread_over_classes(labels, 4, seed=0)
        >>> labels[rows].bincount()
        tensor([2, 2])
    """
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    seen: dict[int, int] = {}
    turns = []
    for label in labels[shuffled].tolist():
        turns.append(seen.get(label, 0))
        seen[label] = turns[-1] + 1
    in_turn = torch.tensor(turns).argsort(stable=True)
    return shuffled[in_turn][:count]


def normalised(data: ImageData | TensorData, rows: Tensor) -> Tensor:
    """Test images of these rows as the network sees them, (n, C, H, W)."""
    return torch.stack([image for image, _ in data.test.__getitems__(rows.tolist())])


def predicted_classes(network: nn.Module, images: Tensor) -> Tensor:
    """The class (N,) that a network predicts for each image (N, 3, H, W)."""
    with untouched(network), torch.no_grad():
        return class_outputs(network(images), len(images)).argmax(dim=1)


def digest(*things: object) -> str:
    """Twelve hexadecimal digits that change with any of the things: tensors, modules, texts."""
    sums = hashlib.sha256()
    for thing in things:
        if isinstance(thing, Tensor):
            whole = thing.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            sums.update(whole.numpy().tobytes())
        elif isinstance(thing, nn.Module):
            values = thing.state_dict()
            sums.update(digest(str(thing), *values, *values.values()).encode())
        else:
            sums.update(f"{thing!r}\n".encode())
    return sums.hexdigest()[:12]
