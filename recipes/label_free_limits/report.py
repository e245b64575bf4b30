"""The report of `label_free_limits`: tables, definitions, settings; and its files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recipes.label_free_limits.criteria import verdicts
from recipes.label_free_limits.figures import figure_of_correlations, figure_of_groups
from recipes.label_free_limits.study import STATISTICS, LimitsStudy
from recipes.shared.reporting.markdown import markdown_table, write_csv

LEGEND = """\
Each signal is compared with the accuracy on the test images over the points of a run, by Spearman's
rank correlation: the mean over seeds, then the least and the greatest. "After the peak" are the
points from the best accuracy on, at least 4; it is empty where there are fewer. "Accuracy lost" is
the best accuracy of the run minus that of the point at which the signal is greatest: what it costs
to choose the checkpoint by it. `step` is a control: whatever rises or falls steadily has a rank
correlation as large after the peak. `probe_accuracy` is the ceiling: it takes the true labels of
the images that the signals look at. Points at which a signal has no value do not count, and with
fewer than 4 its statistics are empty. On corrupted images the points do not follow each other, so
that there is neither a peak nor a checkpoint to choose."""

PROTOCOL = """\
All signals look at the same images, the probe, which are the first of the test images that accuracy
is measured on; AOPC is measured on the first of the probe with the monitor's own choices. The
references are fitted on all training images with the labels as given. The images held out of the
training have labels as wrong as the training's. On corrupted images these and the training images
stay as they are. Normalized AOPC has a protocol of its own, for itself and for its bounds:
{normalized}."""

NORMALIZED = (
    "the first {count} images of the probe, regions of a quarter of the image, half of them "
    "perturbed by their mean colour, bounds by greedy search"
)
WATCHED, RIVAL = "ref_kappa", "confidence"


def write_study(
    study: LimitsStudy, folder: Path, command: str, settings: Mapping[str, str]
) -> list[Path]:
    """Write points, statistics, pictures and the report.

    Args:
        study: what was found.
        folder: where to.
        command: that made it.
        settings: of the runs, by name.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [
        folder / name
        for name in ("report.md", "figure.png", "correlations.png", "limits.csv", "points.csv")
    ]
    report, figure, heat, limits, points = files
    write_csv(points, study.labelled_points())
    write_csv(limits, study.statistics())
    figure_of_groups(study).savefig(figure)
    figure_of_correlations(study).savefig(heat)
    report.write_text(report_of(study, command, settings), encoding="utf-8")
    return files


def report_of(study: LimitsStudy, command: str, settings: Mapping[str, str]) -> str:
    """The report in Markdown."""
    parts = [
        f"# {study.title}: which signals follow accuracy without labels",
        "![accuracy and signals](figure.png)",
        LEGEND,
        "## What was asked beforehand",
        verdicts(study, WATCHED, RIVAL),
        "## At a glance",
        *(f"{title}:\n\n{study.overview(name)}" for name, title in STATISTICS.items()),
        "![rank correlations](correlations.png)",
        *(
            f"## {group.title.capitalize()}\n\n{study.accuracies(group)}\n\n{study.table(group)}"
            for group in study.runs
        ),
        "## Definitions",
        *_definitions(study, settings),
        "## Settings",
        markdown_table(["setting", "value"], [[f"`{k}`", v] for k, v in settings.items()]),
        f"Made by `{command}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _definitions(study: LimitsStudy, settings: Mapping[str, str]) -> list[str]:
    count = settings["normalized_images"]
    measured = NORMALIZED.format(count=count) if int(count) else "it was not measured"
    table = markdown_table(
        ["signal", "definition"],
        [[f"`{signal.name}`", signal.definition] for signal in study.signals],
    )
    return [
        "A signal should be high where accuracy is high; which way that is was fixed beforehand. "
        f"But {len(study.signals)} signals are compared, so that the best of them over a few seeds "
        "is the best partly by luck.",
        table,
        PROTOCOL.format(normalized=measured),
    ]
