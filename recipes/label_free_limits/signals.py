"""Signals that might follow accuracy without labels of the watched images.

Which way a signal should go is fixed here beforehand and not fitted: each should be high where
accuracy is high. All of them look at the same images, the probe; AOPC at the first of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from aopc_monitor.metrics import (
    average_thresholded_confidence,
    cohen_kappa,
    confidence,
    cot,
    disagreement,
    mano,
    mutual_information,
    nearest_labels,
    negative_entropy,
    nuclear_norm,
)
from recipes.label_free_limits.answers import Answers
from recipes.label_free_limits.looks import Look

# The weaker references are there to see where agreement fails.
REFERENCES = {
    "ref": "the fixed reference",
    "ref_few": "a reference of only 16 patches",
    "ref_linear": "a reference that is linear in the pixels",
}
MAIN = (
    "ref_kappa", "nn1_mi", "held_out_accuracy", "atc_confidence", "stability", "confidence", "lrp",
    "step", "probe_accuracy",
)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """All that signals are made of at one look.

    Attributes:
        look: what the network answered.
        before: the look before, or None.
        references: the classes that each reference sees in the probe, (N,), by its name.
        labels: true labels of the probe, for the ceiling alone.
        source_labels: labels as given of the images held out of the training.
        known_labels: labels as given of the training images.
    """

    look: Look
    before: Look | None
    references: Mapping[str, Tensor]
    labels: Tensor
    source_labels: Tensor
    known_labels: Tensor

    @property
    def probe(self) -> Answers:
        """Answers on the probe."""
        return self.look.test.first(len(self.labels))

    def stands(self, measure: Callable[[Tensor, Tensor], Tensor]) -> float:
        """A measure between the predictions of the look before and these; NaN at the first."""
        if self.before is None:
            return math.nan
        earlier = self.before.test.first(len(self.labels))
        return float(measure(earlier.classes, self.probe.classes))


@dataclass(frozen=True)
class Signal:
    """One candidate.

    Attributes:
        name: in tables.
        definition: one line for people.
        of: its value at one look.
    """

    name: str
    definition: str
    of: Callable[[Seen], float]


def signals(heatmaps: Sequence[str], with_normalized: bool = False) -> list[Signal]:
    """All signals, by what they are made of.

    Args:
        heatmaps: names of the heatmaps.
        with_normalized: whether the looks have normalized AOPC.

    Example:
        >>> [signal.name for signal in signals(["lrp"])][:3]
        ['ref_kappa', 'ref_few_kappa', 'ref_linear_kappa']
    """
    found = [*_of_references(), *_of_given_labels(), *_of_the_look_before(), *_of_probabilities()]
    for name in heatmaps:
        found += _of_heatmap(name)
        found += _normalized(name) if with_normalized else []
    return [*found, *_RANDOM, *_CONTROLS]


def _reads(key: str) -> Callable[[Seen], float]:
    return lambda seen: seen.look.numbers[key]


_RANDOM = [
    Signal("random", "AOPC of a random order", _reads("aopc/random")),
    Signal(
        "random_survival",
        "share of predictions that survive when random regions are perturbed",
        _reads("aopc/random_survival"),
    ),
]
_CONTROLS = [
    Signal(
        "step",
        "the optimizer step: a control, which chooses the last checkpoint",
        lambda seen: float(seen.look.step) if seen.before or not seen.look.step else math.nan,
    ),
    Signal(
        "probe_accuracy",
        "accuracy on the probe by its true labels: the ceiling for as many images",
        lambda seen: 1 - float(disagreement(seen.probe.classes, seen.labels)),
    ),
]


def _of_references() -> list[Signal]:
    def kappa_with(name: str) -> Callable[[Seen], float]:
        return lambda seen: float(cohen_kappa(seen.probe.classes, seen.references[name]))

    return [
        Signal(f"{name}_kappa", f"Cohen's kappa of predictions and {text}", kappa_with(name))
        for name, text in REFERENCES.items()
    ]


def _of_given_labels() -> list[Signal]:
    return [
        Signal(
            "nn1_mi",
            "mutual information of the prediction and the given label of the nearest training "
            "image in the network's pooled features",
            lambda seen: float(mutual_information(seen.probe.classes, _nearest(seen))),
        ),
        Signal(
            "held_out_accuracy",
            "accuracy on held-out images with labels as wrong as the training's",
            lambda seen: 1 - float(disagreement(seen.look.source.classes, seen.source_labels)),
        ),
        Signal(
            "atc_confidence",
            "accuracy guessed by average thresholded confidence (Garg et al. 2022) from them",
            lambda seen: _thresholded(seen, confidence),
        ),
        Signal(
            "atc_entropy",
            "the same with negative entropy as the score",
            lambda seen: _thresholded(seen, negative_entropy),
        ),
    ]


def _nearest(seen: Seen) -> Tensor:
    return nearest_labels(seen.probe.features, seen.look.known.features, seen.known_labels)


def _thresholded(seen: Seen, score: Callable[[Tensor], Tensor]) -> float:
    source = seen.look.source
    return average_thresholded_confidence(
        score(source.probabilities),
        source.classes == seen.source_labels,
        score(seen.probe.probabilities),
    )


def _of_the_look_before() -> list[Signal]:
    return [
        Signal(
            "stability",
            "share of predictions that are as at the look before: 1 - churn",
            lambda seen: 1 - seen.stands(disagreement),
        ),
        Signal(
            "stability_mi",
            "mutual information of predictions and those at the look before",
            lambda seen: seen.stands(mutual_information),
        ),
    ]


def _of_probabilities() -> list[Signal]:
    return [
        Signal(
            "confidence",
            "mean probability of the predicted class",
            lambda seen: float(confidence(seen.probe.probabilities).mean()),
        ),
        Signal(
            "confidence_difference",
            "confidence on the probe minus that on training images",
            lambda seen: (
                float(confidence(seen.probe.probabilities).mean())
                - float(confidence(seen.look.known.probabilities).mean())
            ),
        ),
        Signal(
            "negative_entropy",
            "mean negative entropy of the class probabilities",
            lambda seen: float(negative_entropy(seen.probe.probabilities).mean()),
        ),
        Signal(
            "nuclear_norm",
            "nuclear norm of the class probabilities (Deng et al. 2023)",
            lambda seen: float(nuclear_norm(seen.probe.probabilities)),
        ),
        Signal(
            "mano",
            "MaNo (Xie et al. 2024)",
            lambda seen: float(mano(seen.probe.logits)),
        ),
        Signal(
            "cot",
            "1 - cost of moving the class probabilities to the frequencies of the given labels "
            "(COT, Lu et al. 2023)",
            lambda seen: float(cot(seen.probe.probabilities, seen.known_labels)),
        ),
    ]


def _of_heatmap(name: str) -> list[Signal]:
    texts = {
        "": f"AOPC of {name}",
        "_gain": f"AOPC of {name} minus that of a random order",
        "_srg": f"AOPC of {name} minus that of its least relevant regions first (MoRF - LeRF): "
        "symmetric relevance gain (Bluecher et al. 2024)",
        "_survival": f"share of predictions that survive when the regions most relevant by {name} "
        "are perturbed",
        "_survival_lerf": f"the same with the regions least relevant by {name}",
        "_survival_gap": f"{name}_survival_lerf - {name}_survival",
    }
    return [
        Signal(f"{name}{end}", text, _reads(f"aopc/{name}{end}")) for end, text in texts.items()
    ]


def _normalized(name: str) -> list[Signal]:
    texts = {
        "": f"AOPC of {name} as a share of what any order could do (Edin et al. 2025)",
        "_srg": f"MoRF - LeRF of {name} as a share of what any order could do",
    }
    return [
        Signal(f"{name}{end}_normalized", text, _reads(f"normalized/{name}{end}"))
        for end, text in texts.items()
    ]
