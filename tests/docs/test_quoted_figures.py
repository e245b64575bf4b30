"""What pages say of `label_free_limits` are the digits of its tables."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
STUDY = "docs/recipes/label_free_limits.md"
TABLES = "docs/recipes/label_free_limits_tables.md"
LIMITS = "docs/guides/limits.md"
# Short names of the runs, in the order in which the page of all tables has them.
RUNS = {
    "noise": "label_noise/small_cnn",
    "noise_bn": "label_noise/small_cnn_bn",
    "clean": "clean/small_cnn",
    "corrupted": "corruptions/small_cnn",
    "corrupted_otherwise": "other_corruptions/small_cnn",
    "next_class": "asymmetric_noise/small_cnn",
    "small": "small_set/small_cnn",
    "shifted": "shifted/small_cnn",
}
# The columns of a table, and how the overview of each begins.
COLUMNS = {
    "rank": "Rank correlation with accuracy over the whole run",
    "after": "Rank correlation from the accuracy peak on",
    "lost": "Accuracy lost by choosing the checkpoint",
}
ACCURACIES = {
    "peak": r"Test accuracy (\S+)",
    "end": r"at its peak, (\S+)",
    "reference": r"rightly: (\S+)",
    "few": r"fixed reference, (\S+)",
    "linear": r"16 patches, (\S+)",
}
# What pages say: {run.signal.column} is the mean over seeds, in two digits if no others are named;
# {run.signal.column.most} the greatest of the seeds.
QUOTES = {
    "README.md": (
        "accuracy peaked at {noise.accuracy.peak} and fell to {noise.accuracy.end} while a small",
        "after the peak: {noise.lrp.after} both): the checkpoint at which they are greatest was "
        "{noise.lrp.lost:3} below the best. On corrupted images neither is reliable "
        "({corrupted.lrp.rank} and {corrupted.confidence.rank})",
        "| {noise.ref_kappa.rank} / {noise_bn.ref_kappa.rank} | {noise.confidence.rank} / "
        "{noise_bn.confidence.rank} |",
        "| {noise.ref_kappa.after} / {noise_bn.ref_kappa.after} | {noise.confidence.after} / "
        "{noise_bn.confidence.after} |",
        "| {noise.ref_kappa.lost:3} / {noise_bn.ref_kappa.lost:3} | {noise.confidence.lost:3} / "
        "{noise_bn.confidence.lost:3} |",
        "| {clean.ref_kappa.rank} | {clean.confidence.rank} |",
        "| {corrupted.ref_kappa.rank} / {corrupted_otherwise.ref_kappa.rank} | "
        "{corrupted.confidence.rank} / {corrupted_otherwise.confidence.rank} |",
        "(linear in the pixels) lost {clean.ref_linear_kappa.lost:3} in clean trainings",
    ),
    "docs/monitor.md": (
        "it predicted {clean.accuracy.reference} of 1,000 test images rightly, and "
        "{noise.accuracy.reference} where 40% of the labels",
    ),
    LIMITS: (
        "accuracy peaked at {noise.accuracy.peak} and fell to {noise.accuracy.end}. AOPC",
        "after the peak: {noise.lrp.after} both)",
        "the last one, {noise.lrp.lost:3} below the best",
        "confidence (rank correlation {corrupted.confidence.rank}) and AOPC of LRP "
        "({corrupted.lrp.rank} and {corrupted_otherwise.lrp.rank})",
        "| {noise.held_out_accuracy.rank}, with BatchNorm {noise_bn.held_out_accuracy.rank}; lost "
        "{noise.held_out_accuracy.lost:3}, {noise_bn.held_out_accuracy.lost:3} |",
        "(lost {noise.atc_confidence.lost:3} to {noise_bn.atc_confidence.lost:3}, at most "
        "{noise_bn.atc_confidence.lost.most:3})",
        "| {noise.ref_kappa.rank}, with BatchNorm {noise_bn.ref_kappa.rank}, clean "
        "{clean.ref_kappa.rank}; lost {noise.ref_kappa.lost:3}, {noise_bn.ref_kappa.lost:3}, "
        "{clean.ref_kappa.lost:3} |",
        "linear in the pixels ({clean.accuracy.linear} against {clean.accuracy.peak}), it lost "
        "{clean.ref_linear_kappa.lost:3} in clean trainings",
        "| {corrupted.ref_kappa.rank} and {corrupted_otherwise.ref_kappa.rank} on two sets",
        "thresholded confidence ({corrupted_otherwise.atc_confidence.rank} to "
        "{corrupted_otherwise.confidence.rank}), AOPC",
        "| {corrupted_otherwise.nuclear_norm.rank} to {corrupted.cot.rank} on corruptions, "
        "{noise.cot.after} after the peak",
        "| {clean.confidence.rank} and {clean.lrp.rank} in clean trainings; the number of steps "
        "{clean.step.rank} | stability between looks ({clean.stability.rank})",
        "({noise.accuracy.reference} against {noise.accuracy.peak} under wrong labels, "
        "{clean.accuracy.reference} against {clean.accuracy.peak} in clean ones)",
        "wrong labels ({noise_bn.ref_few_kappa.lost:3} to {noise_bn.ref_linear_kappa.lost:3})",
        "for the next; {next_class.ref_kappa.rank} and {next_class.confidence.rank}, lost "
        "{next_class.ref_kappa.lost:3} and {next_class.confidence.lost:3})",
        "right labels ({small.ref_kappa.rank} and {small.confidence.rank})",
        "contrast ({shifted.ref_kappa.rank}, but {shifted.ref_kappa.lost:3} lost by choosing",
    ),
    STUDY: (
        "hardly fell ({noise_bn.accuracy.peak:3} to {noise_bn.accuracy.end:3})",
        "({noise.ref_kappa.after} after the peak) and loses {noise.ref_kappa.lost:3}",
        "as good ({noise.held_out_accuracy.after}, {noise.held_out_accuracy.lost:3})",
        "{noise.accuracy.reference} against {noise.accuracy.peak} under wrong labels, "
        "{clean.accuracy.reference} against {clean.accuracy.peak} in clean ones",
        "16 patches ({noise.accuracy.few})",
        "({clean.accuracy.linear} in clean trainings, the network {clean.accuracy.peak})",
        "loses {clean.ref_linear_kappa.lost:3} (up to {clean.ref_linear_kappa.lost.most:3})",
        "agreement ({next_class.ref_kappa.rank}) is no better than confidence or the number of "
        "steps ({next_class.confidence.rank}), and loses {next_class.ref_kappa.lost:3} by "
        "choosing, they {next_class.step.lost:3}",
        "hardly fell ({next_class.accuracy.peak:3} to {next_class.accuracy.end:3})",
        "accuracy {small.accuracy.peak:3} at its peak, {small.accuracy.end:3} at the end): "
        "agreement has {small.ref_kappa.rank} over the whole run, below confidence and the number "
        "of steps ({small.step.rank}), and {small.ref_kappa.after} over the four points",
        "{shifted.ref_kappa.rank}, but {shifted.ref_kappa.lost:3} lost by choosing, as much as by "
        "confidence ({shifted.confidence.lost:3}); `nn1_mi` fails ({shifted.nn1_mi.rank}, "
        "{shifted.nn1_mi.lost:3} lost)",
        "{noise_bn.nn1_mi.rank} with BatchNorm, {noise_bn.nn1_mi.lost:3} lost on average and "
        "{noise_bn.nn1_mi.lost.most:3} at worst",
        "Agreement follows ({corrupted.ref_kappa.rank}, {corrupted_otherwise.ref_kappa.rank}) "
        "where confidence ({corrupted.confidence.rank}, {corrupted_otherwise.confidence.rank})",
        "AOPC ({corrupted.lrp.rank}, {corrupted_otherwise.lrp.rank}) do not. COT "
        "({corrupted.cot.rank}, {corrupted_otherwise.cot.rank}) and the nuclear norm "
        "({corrupted.nuclear_norm.rank}, {corrupted_otherwise.nuclear_norm.rank})",
        "({clean.lrp_survival.rank} in clean trainings)",
        "Its gap rises ({noise.lrp_survival_gap.rank:3} under wrong labels) but not with BatchNorm "
        "({noise_bn.lrp_survival_gap.rank:3}) and not in clean trainings "
        "({clean.lrp_survival_gap.rank:3})",
    ),
}  # fmt: skip


def cells(line: str) -> list[str]:
    return [cell.strip(" `") for cell in line.strip("|").split("|")]


def all_tables() -> dict[str, dict[str, str]]:
    """By run, "signal.column" and what its cell says."""
    sections = (ROOT / TABLES).read_text(encoding="utf-8").split("\n## ")[1:]
    found = {}
    for run, section in zip(RUNS, sections, strict=False):
        rows = [cells(line) for line in section.splitlines() if line.startswith("| `")]
        values = {
            f"{row[0]}.{column}": cell
            for row in rows
            for column, cell in zip(COLUMNS, row[1:], strict=False)
        }
        told = re.sub(r" \([^)]*\)", "", section)
        for name, pattern in ACCURACIES.items():
            if match := re.search(pattern, told):
                values[f"accuracy.{name}"] = match[1]
        found[run] = values
    return found


CELLS = all_tables()


def filled(sentence: str) -> str:
    def figure(match: re.Match[str]) -> str:
        run, key, most, digits = match.groups()
        cell = CELLS[run][key]
        text = re.split(r" to |[,)]", cell)[1] if most else cell.split()[0]
        return str(Decimal(text).quantize(Decimal(10) ** -int(digits or 2), ROUND_HALF_UP))

    return re.sub(r"\{(\w+)\.(\w+\.\w+)(\.most)?(?::(\d))?\}", figure, sentence)


@pytest.mark.parametrize(
    ("page", "sentence"), [(page, text) for page, texts in QUOTES.items() for text in texts]
)
def test_a_page_quotes_the_tables(page: str, sentence: str) -> None:
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    assert filled(sentence) in text


@pytest.mark.parametrize("column", COLUMNS)
def test_an_overview_has_the_means_of_the_tables(column: str) -> None:
    overview = (ROOT / STUDY).read_text(encoding="utf-8").partition(COLUMNS[column])[2]
    lines = overview.partition("\n\n")[2].partition("\n\n")[0].splitlines()
    signals = cells(lines[0])[1:]
    for row in map(cells, lines[2:]):
        run = next(short for short, name in RUNS.items() if row[0].split()[0] == name)
        for signal, cell in zip(signals, row[1:], strict=True):
            assert cell.split()[:1] == CELLS[run][f"{signal}.{column}"].split()[:1], (run, signal)


def test_what_was_asked_beforehand_is_told_as_in_the_tables() -> None:
    statistics = dict(
        zip(
            ("rank correlation", "rank correlation after the peak", "accuracy lost"),
            COLUMNS,
            strict=True,
        )
    )
    lines = (ROOT / STUDY).read_text(encoding="utf-8").splitlines()
    rows = [cells(line) for line in lines if "| at least 0" in line or "| at most 0" in line]
    assert len(rows) == 10
    for name, statistic, _, of_agreement, _, of_confidence in rows:
        run = next(short for short, long in RUNS.items() if long == name)
        column = statistics[statistic]
        assert of_agreement == CELLS[run][f"ref_kappa.{column}"]
        assert of_confidence == CELLS[run][f"confidence.{column}"]
