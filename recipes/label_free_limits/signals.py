"""Signals that need no labels and might follow accuracy, each made from the numbers of one look.

Which way a signal should go is fixed here beforehand and not fitted: each should be high where
accuracy is high. A network that treats images it was trained on and images it was not trained on
alike should be accurate on both, so what compares the two is validation divided by training, or
validation minus training. Early in a training AOPC is hardly more than noise, and a ratio would be
noise divided by noise: it has no value (NaN) there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Point = Mapping[str, float]
Quantity = Callable[[Point, str], float]


# Standard errors that AOPC of the training images must be above, for a ratio to have a value.
LEAST_Z = 2.0


@dataclass(frozen=True)
class Signal:
    """One candidate.

    Attributes:
        name: in tables.
        definition: one line for people.
        of: its value at one point.
    """

    name: str
    definition: str
    of: Callable[[Point], float]


# After the peak accuracy falls with every step, and so it follows whatever falls steadily.
_CONTROL = Signal(
    "step",
    "the optimizer step: a control, which chooses the last checkpoint",
    lambda point: point.get("step", math.nan),
)


def quotient(numerator: float, denominator: float) -> float:
    """A division; NaN, no value, by zero.

    Example:
        >>> quotient(1.0, 4.0), quotient(1.0, 0.0)
        (0.25, nan)
    """
    return numerator / denominator if denominator else math.nan


def signals(heatmaps: Sequence[str], with_normalized: bool = True) -> list[Signal]:
    """All signals: a control, those of the class probabilities, those of each heatmap.

    Args:
        heatmaps: names of the heatmaps.
        with_normalized: whether the points have normalized AOPC.

    Example:
        >>> point = {"aopc/validation/lrp": 0.2, "aopc/validation/confidence": 0.8}
        >>> {signal.name: signal for signal in signals(["lrp"])}["lrp_relative"].of(point)
        0.25
    """
    found = [_CONTROL, *_of_probabilities(), *_of_orders("random", "a random order")]
    for name in heatmaps:
        found += _of_orders(name, name) + _of_heatmap(name)
        found += _normalized(name) if with_normalized else []
    return found


def _of_probabilities() -> list[Signal]:
    kinds = {
        "confidence": "mean probability of the predicted class, all test images",
        "negative_entropy": "mean negative entropy of the class probabilities, all test images",
        "atc_confidence": "accuracy guessed by average thresholded confidence (Garg et al. 2022)",
        "atc_entropy": "the same with negative entropy as the score",
    }
    rivals = [Signal(name, text, _reads(f"rivals/{name}")) for name, text in kinds.items()]
    return rivals + _comparisons("confidence", "confidence", _plain("confidence"), "confidence")


def _of_orders(name: str, text: str) -> list[Signal]:
    relative = _relative(name)
    return [
        Signal(name, f"AOPC of {text}", _reads(f"aopc/validation/{name}")),
        Signal(f"{name}_relative", f"AOPC of {text} / f(x)", lambda p: relative(p, "validation")),
        *_comparisons(name, f"AOPC of {text}", _plain(name), name),
        *_comparisons(f"{name}_relative", f"AOPC of {text} / f(x)", relative, name),
    ]


def _of_heatmap(name: str) -> list[Signal]:
    least = f"AOPC of {name} minus that of its least relevant regions first (MoRF - LeRF)"
    relative = _relative(f"{name}_srg")
    return [
        Signal(
            f"{name}_gain",
            f"AOPC of {name} minus that of a random order",
            _reads(f"aopc/validation/{name}_gain"),
        ),
        Signal(
            f"{name}_srg",
            f"{least}: symmetric relevance gain (Bluecher et al. 2024)",
            _reads(f"aopc/validation/{name}_srg"),
        ),
        Signal(f"{name}_srg_relative", f"{name}_srg / f(x)", lambda p: relative(p, "validation")),
    ]


def _normalized(name: str) -> list[Signal]:
    return [
        Signal(
            f"{name}_normalized",
            f"AOPC of {name} as a share of what any order could do (Edin et al. 2025)",
            _reads(f"normalized/{name}"),
        ),
        Signal(
            f"{name}_srg_normalized",
            f"MoRF - LeRF of {name} as a share of what any order could do",
            _reads(f"normalized/{name}_srg"),
        ),
    ]


def _comparisons(name: str, text: str, quantity: Quantity, kind: str) -> list[Signal]:
    """A quantity, made of the measured `kind`, on validation beside that on training images."""
    what = kind if kind == "confidence" else f"AOPC of {kind}"
    return [
        Signal(
            f"{name}_ratio",
            f"{text}: validation / training images; no value unless {what} of the training "
            f"images is above {LEAST_Z:g} of its standard errors",
            lambda p: _ratio(p, quantity, kind),
        ),
        Signal(
            f"{name}_difference",
            f"{text}: validation - training images",
            lambda p: quantity(p, "validation") - quantity(p, "train"),
        ),
    ]


def _ratio(point: Point, quantity: Quantity, kind: str) -> float:
    measured, sem = point[f"aopc/train/{kind}"], point[f"aopc/train/{kind}_sem"]
    # The other part of a relative quantity, f(x), is never near zero.
    if not measured > LEAST_Z * sem:
        return math.nan
    return quotient(quantity(point, "validation"), quantity(point, "train"))


def _reads(key: str) -> Callable[[Point], float]:
    return lambda point: point[key]


def _plain(kind: str) -> Quantity:
    return lambda point, probe: point[f"aopc/{probe}/{kind}"]


def _relative(kind: str) -> Quantity:
    """A share of f(x), the mean probability that there was to lose."""
    return lambda point, probe: quotient(
        point[f"aopc/{probe}/{kind}"], point[f"aopc/{probe}/confidence"]
    )
