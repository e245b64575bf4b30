"""What the pictures of a monitor show."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from aopc_monitor.figures import (
    DASHBOARD,
    Line,
    gallery_of,
    perturbation_curves,
    text_html,
    text_markdown,
    training_progress,
)
from aopc_monitor.metrics.evaluation import Evaluation
from aopc_monitor.monitor.dashboard.picture_loggers import Page
from aopc_monitor.monitor.dashboard.shown_images import Sample
from aopc_monitor.monitor.loggers import key
from aopc_monitor.utilities.statistics import standard_error

MOST_PANELS = 4
# A point of a curve that rests on fewer says more of these images than of the network.
FEWEST_IMAGES = 64
RANDOM = "random order"

Record = Mapping[str, float]


def progress_panel(
    history: Sequence[Record], prefix: str, probe: str, heatmaps: Sequence[str], score: str
) -> Any:
    """AOPC of each heatmap, the random order, and accuracy over the training so far.

    Without labels confidence takes the place of accuracy, and nothing where there is none.
    Agreement with a reference stands beside it, with its maximum marked.

    Args:
        history: records of a monitor, at least one.
        prefix: first part of the log keys.
        probe: name of the probe, "" for the only one.
        heatmaps: their names.
        score: what AOPC is a drop of.

    Returns:
        A matplotlib Figure.
    """
    # Where validations see averaged weights, looks at others have keys of their own.
    history = [r for r in history if key(prefix, probe, "random") in r] or history[-1:]

    def column(kind: str) -> list[float]:
        return [record.get(key(prefix, probe, kind), math.nan) for record in history]

    def line(kind: str, is_control: bool = False) -> Line:
        return Line(column(kind), column(f"{kind}_sem"), is_control)

    lines = {name: line(name) for name in heatmaps} | {RANDOM: line("random", is_control=True)}
    names = [name for name in ("accuracy", "confidence") if key(prefix, probe, name) in history[-1]]
    steps = [int(record["step"]) for record in history]
    has_agreement = any(key(prefix, probe, "agreement") in record for record in history)
    return training_progress(
        steps,
        lines,
        column(names[0]) if names else None,
        _title(steps[-1], probe),
        left_name=f"AOPC ({score}, ± SEM)",
        right_name="".join(names[:1]),
        style=DASHBOARD,
        agreement=line("agreement") if has_agreement else None,
    )


def curves_panel(
    evaluation: Evaluation,
    probe: str,
    heatmaps: Sequence[str],
    score: str,
    step: int,
    counts_shares: bool = False,
) -> Any:
    """Perturbation curves of each heatmap in both orders and of the random order.

    Args:
        evaluation: with the least relevant regions first.
        probe: name of the probe, "" for the only one.
        heatmaps: their names; the first four are shown.
        score: what was measured.
        step: of the training.
        counts_shares: whether a step is a share of an input's regions, and no region more.

    Returns:
        A matplotlib Figure.
    """

    def line(name: str, is_control: bool = False) -> Line:
        values, errors = pooled_curve(evaluation.sums[f"{name}_curve"])
        return Line(values.tolist(), errors.tolist(), is_control)

    random = line("random", is_control=True)
    panels = {
        name: {
            "most relevant first": line(name),
            "least relevant first": line(f"{name}_lerf"),
            RANDOM: random,
        }
        for name in heatmaps[:MOST_PANELS]
    }
    title = _title(step, probe)
    if len(heatmaps) > MOST_PANELS:
        title += f" (first {MOST_PANELS} of {len(heatmaps)} heatmaps)"
    below = "step (at the last, all regions)" if counts_shares else "regions perturbed"
    return perturbation_curves(panels, score, title, DASHBOARD, below)


def pooled_curve(sums: Tensor, fewest_images: int = FEWEST_IMAGES) -> tuple[Tensor, Tensor]:
    """A curve in which neighbouring steps share a point, until it rests on enough images.

    Where steps are sampled, each of them was evaluated for other images, and few.

    Args:
        sums: (3, L+1) count, sum and sum of squares at each step, as an `Evaluation` keeps them.
        fewest_images: that a point rests on; all images of the first step, if those are fewer.

    Returns:
        (L+1,) means and (L+1,) standard errors: of a group of steps, at the step where the mean of
        its evaluations lies; NaN at the others.

    Example:
        >>> sums = torch.tensor([[4, 2, 2, 4], [4.0, 1.4, 0.6, 0.8], [4.0, 1.0, 0.2, 0.2]])
        >>> pooled_curve(sums)[0]
        tensor([1.0000,    nan, 0.5000, 0.2000])
    """
    fewest = min(fewest_images, int(sums[0, 0]))
    groups: list[list[int]] = [[]]
    for step in range(sums.shape[1]):
        groups[-1].append(step)
        if sums[0, groups[-1]].sum() >= fewest:
            groups.append([])
    unfinished = groups.pop()
    groups[-1] += unfinished
    values, errors = torch.full_like(sums[:2], torch.nan)
    for group in groups:
        counts = sums[0, group]
        centre = round(float((counts * torch.tensor(group).to(counts)).sum() / counts.sum()))
        total = sums[:, group].sum(dim=1)
        values[centre] = total[1] / total[0]
        errors[centre] = standard_error(*total)
    return values, errors


def worded(sample: Sample, text: Callable[[Sequence[int]], str]) -> Sample:
    """A sample of texts with words in the place of the ids of their tokens; any other as it is."""
    if sample.kind != "texts":
        return sample
    words = [[text(ids).strip() for ids in of_text] for of_text in sample.inputs]
    return replace(sample, inputs=words)


def text_page(sample: Sample, probe: str, names: Sequence[str] | None, step: int) -> Page:
    """Whole texts with the relevance of their words; see `heatmaps_panel`."""
    content = (sample.inputs, sample.maps, sample.titles(names), _title(step, probe))
    return Page(text_html(*content), text_markdown(*content))


def heatmaps_panel(sample: Sample, probe: str, names: Sequence[str] | None, step: int) -> Any:
    """Inputs with what the network takes them for, and their heatmaps.

    Args:
        sample: the inputs and their heatmaps.
        probe: name of the probe, "" for the only one.
        names: of the classes, if they have any.
        step: of the training.

    Returns:
        A matplotlib Figure.
    """
    return gallery_of(
        sample.kind,
        sample.inputs,
        sample.maps,
        sample.titles(names),
        _title(step, probe),
        DASHBOARD,
        **sample.more,
    )


def _title(step: int, probe: str) -> str:
    text = f"training step {step:,}"
    return f"{probe}, {text}" if probe else text
