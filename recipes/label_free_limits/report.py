"""The report of `label_free_limits`: tables, definitions, settings; and its files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recipes.label_free_limits.figures import figure_of_correlations, figure_of_regimes
from recipes.label_free_limits.study import TITLES, LimitsStudy
from recipes.shared.reporting.markdown import markdown_table, write_csv

LEGEND = """\
Each signal is correlated with the accuracy on all test images over the points of a run (Pearson,
and Spearman's rank correlation): the mean over seeds, then the least and the greatest. "After the
peak" are the points from the best accuracy on, at least 4; it is empty where there are fewer.
"Accuracy lost" is the best accuracy of the run minus that of the point at which the signal is
greatest: what it costs to choose the checkpoint by it. `step` is a control: whatever rises or
falls steadily has a rank correlation as large after the peak. Points at which a signal has no value
do not count, and with fewer than 4 its statistics are empty. On corrupted images the points do not
follow each other, so that there is neither a peak nor a checkpoint to choose."""

PROTOCOL = """\
Both probes are always the same images: training images, not augmented, and test images. AOPC is
measured on them with the monitor's own choices; f(x) is their mean probability of the predicted
class. Confidence, entropy and thresholded confidence look at all test images; the labelled source
of thresholded confidence is held out of the training and has labels like those of the training
images, wrong ones too. Normalized AOPC has a protocol of its own, for itself and for its bounds:
{normalized}. On corrupted images the training probe and the source stay clean."""

NORMALIZED = (
    "the first {count} images of the validation probe, regions of a quarter of the image, half of "
    "them perturbed by their mean colour, bounds by greedy search"
)


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
    figure_of_regimes(study).savefig(figure)
    figure_of_correlations(study).savefig(heat)
    report.write_text(report_of(study, command, settings), encoding="utf-8")
    return files


def report_of(study: LimitsStudy, command: str, settings: Mapping[str, str]) -> str:
    """The report in Markdown."""
    tables = [
        f"## {TITLES[regime].capitalize()}\n\n{study.accuracies(regime)}\n\n"
        f"{study.table(regime, study.signals)}"
        for regime in study.of_regime()
    ]
    definitions = markdown_table(
        ["signal", "definition"],
        [[f"`{signal.name}`", signal.definition] for signal in study.signals],
    )
    count = settings["normalized_images"]
    measured = NORMALIZED.format(count=count) if int(count) else "it was not measured"
    parts = [
        f"# {study.title}: where AOPC stops following accuracy",
        "![accuracy and signals](figure.png)",
        LEGEND,
        *tables,
        "## All regimes at a glance",
        "![rank correlations](correlations.png)",
        "## Definitions",
        "A signal should be high where accuracy is high; which way that is was fixed beforehand. "
        f"But {len(study.signals)} signals are compared, so that the best of them over a few seeds "
        "is the best partly by luck.",
        definitions,
        PROTOCOL.format(normalized=measured),
        "## Settings",
        markdown_table(["setting", "value"], [[f"`{k}`", v] for k, v in settings.items()]),
        f"Made by `{command}`.",
    ]
    return "\n\n".join(parts) + "\n"
