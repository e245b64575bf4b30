from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from recipes.sensitivity_n.__main__ import main, parse_arguments
from recipes.sensitivity_n.correlation import Correlations
from recipes.shared.data.labelled_images import TrainingPlan
from recipes.shared.data.labelled_tensors import LabelledTensors, TensorData

QUICK = ["--max-epochs", "1", "--num-images", "4", "--sizes", "3", "--subsets", "10",
         "--block-size", "2", "--accelerator", "cpu", "--devices", "1"]  # fmt: skip
FEW = ["--methods", "gradient_x_input", "lrp", "occlusion", "--networks", "mlp_relu"]


def blobs() -> TensorData:
    """Noise, brighter in another row for each class."""
    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> LabelledTensors:
        images = torch.rand(count, 1, 28, 28, generator=generator) * 0.5
        labels = torch.arange(count) % 10
        images[torch.arange(count), 0, 2 * labels] += 0.5
        return LabelledTensors(images, labels, [str(digit) for digit in range(10)])

    train, test = part(40), part(20)
    return TensorData("blobs", train, test, train.classes, TrainingPlan(1, 20, 2e-3))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    data = blobs()
    monkeypatch.setattr("recipes.sensitivity_n.inputs.mnist", lambda seed: data)
    return lambda *more: main([*QUICK, "--output", str(tmp_path), *more])


def test_all_methods_agree_on_a_linear_network(run: Callable[..., Any], tmp_path: Path) -> None:
    report = run("--networks", "linear")
    folder = tmp_path / "sensitivity_n" / "blobs"
    (row,) = list(csv.DictReader((folder / "claims.csv").open()))
    assert row["verdict"] == "holds"
    assert "least correlation 1.0000" in row["found"]
    text = (folder / "report.md").read_text()
    assert row["claim"] in text
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    curves = list(csv.DictReader((folder / "curves.csv").open()))
    assert {row["n"] for row in curves} == {"1", "25", "627"}
    of_random = [float(row["correlation"]) for row in curves if row["method"] == "random"]
    assert max(map(abs, of_random)) < 0.9
    assert report.found["linear"].at("deeplift", 25).mean == pytest.approx(1.0, abs=1e-3)


def test_claims_of_a_network_of_relus(run: Callable[..., Any]) -> None:
    verdicts = [row[2:] for row in map(list, _claims(run(*FEW)))]
    networks, found, holds = zip(*verdicts, strict=True)
    assert set(networks) == {"mlp_relu"}
    assert found[0].endswith("% apart")
    assert found[1] == "1.0000 at n = 1"
    assert holds[:2] == ("holds", "holds")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two topics of 60 texts that a few words tell apart; one text in three is short."""
    root, order = tmp_path_factory.mktemp("texts") / "two topics", random.Random(0)
    common = ["the", "of", "day", "and", "was", "in"]
    for topic, words in (("sport", ["goal", "match"]), ("business", ["market", "shares"])):
        (root / topic).mkdir(parents=True)
        for number in range(60):
            text = " ".join(order.choices(common + words, k=12 if number % 3 else 6))
            (root / topic / f"{number:03}.txt").write_text(text)
    return root


def test_words_of_texts_are_removed(folder: Path, tmp_path: Path) -> None:
    texts = ["--text-folder", str(folder), "--length", "10", "--output", str(tmp_path)]
    report = main([*QUICK, *texts, "--subsets", "30"])
    assert list(report.found) == ["text_lstm", "text_cnn"]
    for found in report.found.values():
        assert found.sizes == (1, 3, 8)
        assert found.relevance["lrp"].shape == (4, 10)
        # Removed words are what occlusion occludes them by: vectors of zeros.
        assert found.at("occlusion", 1).mean == pytest.approx(1.0, abs=1e-3)
    claims = [(row[2], row[4]) for row in _claims(report)]
    # The only nonlinearities are ReLU and maxima.
    assert claims[0] == ("text_cnn", "holds")
    text = (tmp_path / "sensitivity_n" / "two-topics-10-words" / "report.md").read_text()
    assert "words of each text" in text
    assert "pixel" not in text


def test_texts_must_have_so_many_words(folder: Path) -> None:
    with pytest.raises(ValueError, match="--length 13: of two topics 0 training and 0 test texts"):
        main([*QUICK, "--text-folder", str(folder), "--length", "13"])


def _claims(report: Any) -> list[list[str]]:
    lines = [line.strip("|").split("|") for line in report.claims().splitlines()[2:]]
    return [[cell.strip() for cell in cells] for cells in lines]


def test_what_was_measured_is_read(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(*FEW)
    monkeypatch.setattr(pl.Trainer, "fit", None)
    measured: list[str] = []
    of_method = Correlations._of_method

    def counted(self: Correlations, *args: Any) -> Any:
        measured.append(str(args[-1]))
        return of_method(self, *args)

    monkeypatch.setattr(Correlations, "_of_method", counted)
    assert run(*FEW).rows() == first.rows()
    assert measured == []
    run("--methods", "lrp", "deeplift", "--networks", "mlp_relu")
    assert len(measured) == 2
    assert all("DeepLIFT" in name for name in measured)


def test_fewer_texts_than_digits_are_usual() -> None:
    assert parse_arguments([]).num_images == 100
    assert parse_arguments(["--data", "texts"]).num_images == 40
    assert parse_arguments(["--text-folder", "mine"]).num_images == 40
    assert parse_arguments(["--data", "texts", "--num-images", "7"]).num_images == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-images", "0"], "--num-images 0: must be at least 1"),
        (["--subsets", "2"], "--subsets 2: must be at least 3"),
        (["--length", "1"], "--length 1: must be at least 2"),
        (["--data", "texts", "--networks", "linear"], "linear: of texts, choose text_lstm, text_c"),
        (["--networks", "text_cnn"], "--networks text_cnn: of digits, choose linear, mlp_relu"),
        (["--sizes", "1"], "--sizes 1: must be at least 2"),
    ],
)
def test_impossible_settings_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(arguments)
    assert message in capsys.readouterr().err
