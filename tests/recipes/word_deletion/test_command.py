"""The command on a small folder of texts, from the training to the report."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest
from PIL import Image

from recipes.shared.data.texts import load_texts
from recipes.word_deletion.__main__ import main, parse_arguments, texts_to_study

QUICK = ["--max-epochs", "2", "--evaluations", "3", "--num-texts", "12", "--deleted-words", "4",
         "--steps", "4", "--sampled-steps", "2", "--heatmaps", "lrp", "random", "--length", "20",
         "--accelerator", "cpu", "--devices", "1"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two topics of 60 texts that a few words tell apart."""
    root, order = tmp_path_factory.mktemp("texts") / "two topics", random.Random(0)
    common = ["the", "of", "day", "and", "was", "in"]
    for topic, words in (("sport", ["goal", "match"]), ("business", ["market", "shares"])):
        (root / topic).mkdir(parents=True)
        for number in range(60):
            text = " ".join(order.choices(common + words, k=15))
            (root / topic / f"{number:03}.txt").write_text(text)
    return root


def test_from_the_training_to_the_report_and_again(folder: Path, tmp_path: Path) -> None:
    arguments = ["--text-folder", str(folder), "--output", str(tmp_path), *QUICK]
    report = main(arguments)
    out = tmp_path / "word_deletion" / "two-topics"
    text = (out / "report.md").read_text(encoding="utf-8")
    for part in ("Order found: ", "| lrp ", "sorted rightly", "`aopc/random`", "uniform"):
        assert part in text
    for name in ("deletion", "documents", "progress", "texts"):
        with Image.open(out / f"{name}.png") as image:
            assert min(image.size) > 100
    assert "<span" in (out / "texts.html").read_text(encoding="utf-8")
    with (out / "areas.csv").open() as lines:
        assert len(list(csv.DictReader(lines))) == 12
    assert len(report.points) == 3

    begun = (out / "weights.pt").stat().st_mtime_ns
    again = main(arguments)  # nothing is trained again
    assert (out / "weights.pt").stat().st_mtime_ns == begun
    assert again.area_table() == report.area_table()
    with pytest.raises(ValueError, match=r"holds a run of other settings \(max_epochs was 2"):
        main([*arguments, "--max-epochs", "1"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--heatmaps", "lpr"], "--heatmaps lpr: choose of"),
        (["--evaluations", "2"], "a correlation needs at least 3"),
    ],
)
def test_wrong_arguments(
    wrong: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(wrong)
    assert message in capsys.readouterr().err


def test_documents_that_are_too_short_are_told(folder: Path) -> None:
    data = load_texts("", folder, length=20)
    options = parse_arguments(["--deleted-words", "16"])
    with pytest.raises(ValueError, match="--deleted-words 16: no test document of two topics"):
        texts_to_study(data, options)
