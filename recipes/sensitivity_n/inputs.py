"""What is explained: digits, of which pixels are removed, or texts, of which words are."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import nn

from recipes.sensitivity_n.networks import NETWORKS, TEXT_NETWORKS
from recipes.shared.data.labelled_tensors import LabelledTensors, TensorData
from recipes.shared.data.labelled_texts import PADDING, LabelledTexts
from recipes.shared.data.mnist import mnist
from recipes.shared.data.texts import load_texts


@dataclass(frozen=True)
class Wording:
    """What a report calls things.

    Attributes:
        item: one input.
        feature: what is removed of it.
        removed: what features become.
    """

    item: str
    feature: str
    removed: str


DIGITS = Wording("image", "pixel", "made black")
TEXTS = Wording("text", "word", "made vectors of zeros")


@dataclass(frozen=True)
class Inputs:
    """Inputs, and the networks that are trained on them.

    Attributes:
        data: the training and the test set.
        networks: makes each network, by name.
        wording: of the report.
    """

    data: TensorData
    networks: Mapping[str, Callable[[], nn.Module]]
    wording: Wording


def inputs_of(options: argparse.Namespace) -> Inputs:
    """The inputs that the arguments name."""
    if options.data == "digits":
        return Inputs(mnist(options.seed), NETWORKS, DIGITS)
    return texts(options)


def texts(options: argparse.Namespace) -> Inputs:
    """Numbers of words (N, T), of texts that have at least so many words.

    Padding would be removed like a word, and no text has any.

    Raises:
        ValueError: unless such texts are in the training and in the test set.
    """
    found = load_texts("docstrings", options.text_folder, options.length, options.seed)
    train, test = _filled(found.train), _filled(found.test)
    if len(train) < found.plan.batch_size or not len(test):
        raise ValueError(
            f"--length {options.length}: of {found.name} {len(train)} training and {len(test)} "
            f"test texts have so many words; wanted are {found.plan.batch_size} and 1: give less"
        )
    # Networks of another length are other networks, and are kept apart by the name.
    name = f"{found.name}, {options.length} words"
    data = TensorData(name, train, test, found.classes, found.plan)
    sizes = len(found.vocabulary), len(found.classes)
    networks = {name: partial(make, *sizes) for name, make in TEXT_NETWORKS.items()}
    return Inputs(data, networks, TEXTS)


def _filled(part: LabelledTexts) -> LabelledTensors:
    rows = (part.input_ids != PADDING).all(dim=1)
    return LabelledTensors(part.input_ids[rows], part.labels[rows], part.classes)
