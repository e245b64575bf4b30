"""What pages say of `training_progress` are the digits of its tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/recipes/training_progress.md").read_text(encoding="utf-8")
NETWORKS = ("small_cnn", "small_cnn_bn", "small_resnet")


def table(begin: str) -> dict[str, list[str]]:
    """By signal, Pearson, Spearman, what stood at the end, and z, of the first table below."""
    rows = PAGE.partition(begin)[2].partition("|\n\n")[0].splitlines()
    split = (
        [cell.strip(" `") for cell in row.strip("|").split("|")] for row in rows if "| `" in row
    )
    return {signal: cells for signal, *cells in split}


STUDY = {name: table(f"**`{name}`**") for name in NETWORKS}
DIGITS = table("## On digits")
FINE_TUNING = table("### Fine-tuning a pretrained network")


def words(page: str) -> str:
    return " ".join((ROOT / page).read_text(encoding="utf-8").split())


def means(signal: str, column: int = 0) -> list[str]:
    return [STUDY[name][signal][column].split()[0] for name in NETWORKS]


def span(signal: str, column: int = 0) -> str:
    return f"{min(means(signal, column))} to {max(means(signal, column))}"


def test_the_readme_quotes_the_study() -> None:
    lrp, random, confidence = (f"aopc/{name}" for name in ("lrp", "random", "confidence"))
    said = (
        f"AOPC of LRP has a Pearson correlation with test accuracy of {span(lrp)} (Spearman "
        f"{span(lrp, 1)}), that of a random order {span(random)}, "
        f"mean confidence {span(confidence)}"
    )
    assert said in words("README.md")


@pytest.mark.parametrize(
    ("name", "signal"),
    [
        ("AOPC of LRP", "aopc/lrp"),
        ("AOPC of a random order", "aopc/random"),
        ("mean confidence", "aopc/confidence"),
    ],
)
def test_the_guide_to_limits_quotes_the_study(name: str, signal: str) -> None:
    assert f"| {name} | {' | '.join(means(signal))} |" in words("docs/guides/limits.md")


def test_the_guide_to_reading_quotes_the_study() -> None:
    random, lrp, confidence = (means(f"aopc/{name}")[0] for name in ("random", "lrp", "confidence"))
    said = f"test accuracy at {random}, that of LRP at {lrp}, plain confidence at {confidence}"
    assert said in words("docs/guides/reading.md")


def test_the_readme_quotes_the_digits() -> None:
    (pearson, spearman, *_), gain = DIGITS["aopc/lrp"], DIGITS["aopc/lrp_gain"][2]
    accuracy = DIGITS["accuracy/test"][2]
    said = (
        f"{pearson} (Pearson) and {spearman} (Spearman). It ends {gain} above the random order, "
        f"at an accuracy of {accuracy}:"
    )
    assert said in words("README.md")


def test_the_guide_to_choosing_quotes_errors_of_128_images() -> None:
    digits, photographs = (re.split(" ± ", t["aopc/lrp"][2])[1] for t in (DIGITS, FINE_TUNING))
    text = words("docs/guides/choosing.md")
    assert f"128 images gave ±{digits} [on digits]" in text
    assert f"±{photographs} [on CIFAR-10]" in text
