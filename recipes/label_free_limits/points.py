"""The third phase: signals and accuracy from what networks answered."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from recipes.label_free_limits.looks import Look
from recipes.label_free_limits.references import seen_by_references
from recipes.label_free_limits.runs import Run
from recipes.label_free_limits.signals import REFERENCES, Seen, Signal
from recipes.label_free_limits.study import ON_TRAINING_IMAGES, LimitsRun
from recipes.shared.training.beside import ACCURACY


def limits_run(run: Run, compared: Sequence[Signal]) -> LimitsRun:
    """The points of a run; makes what is missing of its training and its looks.

    Args:
        run: what is looked at.
        compared: the signals.
    """
    looks, subjects = run.looks(), run.subjects
    references = seen_by_references(subjects, run.conditions(), run.reference_file, run.seed)
    points: list[dict[str, float | str]] = []
    before: Look | None = None
    for look, condition in zip(looks, run.conditions(), strict=True):
        seen = Seen(
            look, before, references[condition.images], subjects.probe.labels,
            subjects.source.labels, subjects.known.labels,
        )  # fmt: skip
        points.append(
            {
                "corruption": look.corruption,
                "severity": look.severity,
                **_accuracies(seen, subjects.data.test.labels),
                **{signal.name: signal.of(seen) for signal in compared},
            }
        )
        before = look if run.is_training else None
    return LimitsRun(run.seed, points, run.is_training)


def _accuracies(seen: Seen, labels: Tensor) -> dict[str, float]:
    """What signals are compared with, and what one wants to know beside it."""
    known = seen.look.known
    return {
        ACCURACY: _share(seen.look.test.classes, labels),
        ON_TRAINING_IMAGES: _share(known.classes, seen.known_labels),
        **{f"{name}/accuracy": _share(seen.references[name], seen.labels) for name in REFERENCES},
    }


def _share(classes: Tensor, labels: Tensor) -> float:
    return float((classes == labels).double().mean())
