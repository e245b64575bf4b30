"""Arras et al. 2016: delete the words that a network sorts documents by, and see it fail.

python -m recipes.word_deletion                            # docstrings of installed packages
python -m recipes.word_deletion --dataset 20newsgroups     # scikit-learn downloads them
python -m recipes.word_deletion --text-folder DIR          # DIR/TOPIC/*.txt

A convolutional network with word vectors is trained while the monitor watches it; then words are
deleted, and documents become sums of their word vectors. Started again, it goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from aopc_monitor import AOPCMonitor, heatmaps
from recipes.shared.arguments import add_trainer_arguments, command_line, data_folder
from recipes.shared.data.labelled_texts import LabelledTexts, TextData
from recipes.shared.data.texts import TEXT_SET_NAMES, load_texts
from recipes.shared.freed_memory import keep_all_freed_memory
from recipes.shared.heatmap_study import spread_over_classes
from recipes.shared.reporting.run_folder import RunFolder
from recipes.shared.training.beside import LabelFreeRivals
from recipes.shared.training.classifier import TextClassifier
from recipes.shared.training.fitting import TEST_BATCH_SIZE, loaders
from recipes.shared.training.text_networks import TextCNN
from recipes.shared.training.watched_training import watched_training
from recipes.word_deletion.deletion import Sorted, accuracy_curves, areas
from recipes.word_deletion.document_vectors import projections
from recipes.word_deletion.report import Report

HEATMAPS = ("lrp", "sensitivity_l2", "gradient_x_input", "random")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line to settings."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.word_deletion",
        description="Train a network that sorts documents, and delete the words it sorts them by.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    texts = parser.add_mutually_exclusive_group()
    texts.add_argument("--dataset", choices=TEXT_SET_NAMES, default="docstrings")
    texts.add_argument("--text-folder", type=Path, help="folder of TOPIC/*.txt")
    parser.add_argument(
        "--length",
        type=int,
        help="words of a document, the first; 200 of docstrings, else 400, if not given",
    )
    parser.add_argument(
        "--heatmaps",
        nargs="+",
        default=list(HEATMAPS),
        metavar="NAME",
        help=f"of {', '.join(heatmaps.names())}",
    )
    parser.add_argument(
        "--num-texts", type=int, default=200, help="of the test, to delete words of"
    )
    parser.add_argument("--deleted-words", type=int, default=50, help="at most")
    parser.add_argument("--steps", type=int, default=50, help="L, of the area over the curve")
    parser.add_argument("--sampled-steps", type=int, default=8, help="of each document")
    parser.add_argument("--evaluations", type=int, default=16, help="log-spaced over training")
    add_trainer_arguments(parser)
    parser.add_argument("--output", type=Path, default=Path("runs"))
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.heatmaps) - set(heatmaps.names()))
    if unknown:
        parser.error(f"--heatmaps {' '.join(unknown)}: choose of {', '.join(heatmaps.names())}")
    if options.evaluations < 3:
        parser.error(f"--evaluations {options.evaluations}: a correlation needs at least 3")
    return options


def main(arguments: Sequence[str] | None = None) -> Report:
    """Train, watch, delete, report."""
    options = parse_arguments(arguments)
    data = load_texts(options.dataset, options.text_folder, options.length, options.seed)
    folder = RunFolder(data_folder(options.output / "word_deletion", data), _settings(options))
    network, points = _trained(options, data, folder)
    texts = texts_to_study(data, options)
    found = Sorted.of(network, texts, options.heatmaps)
    vectors = network.vectors(texts.input_ids).detach()
    report = Report(
        data=data,
        found=found,
        points=points,
        accuracies=accuracy_curves(network, found, options.deleted_words, options.seed),
        areas=areas(network, found, options.steps, options.sampled_steps, options.seed),
        projections=projections(vectors, found.relevances, texts.labels.tolist()),
        command=command_line("recipes.word_deletion", arguments),
    )
    report.write(folder.path)
    print(f"\n{report.text()}\n\nreport   {folder.path / 'report.md'}")
    return report


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """What two runs must share to belong together."""
    elsewhere = ("output", "accelerator", "devices", "strategy")
    return {k: str(v) for k, v in vars(options).items() if k not in elsewhere}


def _trained(
    options: argparse.Namespace, data: TextData, folder: RunFolder
) -> tuple[TextCNN, list[dict[str, float]]]:
    """The trained network, and a point for each look of the monitor while it was trained."""
    points = folder.read_points()
    pl.seed_everything(options.seed, verbose=False)
    model = TextClassifier(len(data.vocabulary), len(data.classes), data.plan.learning_rate)
    if points is None:
        folder.begin()
        points = _train(options, data, folder, model)
        torch.save(model.network.state_dict(), folder.path / "weights.pt")
        folder.write_points(points)
    else:
        weights = torch.load(folder.path / "weights.pt", weights_only=True)
        model.network.load_state_dict(weights)
    return model.network.cpu().eval(), points


def _train(
    options: argparse.Namespace, data: TextData, folder: RunFolder, model: TextClassifier
) -> list[dict[str, float]]:
    monitor = AOPCMonitor(
        [name for name in options.heatmaps if name != "random"],
        at_validation=False,
        seed=options.seed,
        on_error="raise",
        figures=True,
    )
    numbers = TensorDataset(data.test.input_ids, data.test.labels)
    rivals = LabelFreeRivals(monitor, DataLoader(numbers, batch_size=TEST_BATCH_SIZE))
    epochs = data.plan.max_epochs
    return watched_training(options, folder, model, loaders(data), rivals, options.seed, epochs)


def texts_to_study(data: TextData, options: argparse.Namespace) -> LabelledTexts:
    """Texts of the test that have enough words to delete, spread over the topics.

    Raises:
        ValueError: if there are none.
    """
    long_enough = torch.tensor([len(text) >= options.deleted_words for text in data.test.texts])
    rows = long_enough.nonzero()[:, 0]
    if not len(rows):
        raise ValueError(
            f"--deleted-words {options.deleted_words}: no test document of {data.name} has so many"
        )
    chosen = spread_over_classes(data.test.labels[rows], options.num_texts, options.seed)
    return data.test.part(rows[chosen])


if __name__ == "__main__":
    keep_all_freed_memory()
    main()
