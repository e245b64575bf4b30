"""Labelled texts: words, vocabulary, padding, split, and where they come from."""

import sys
from pathlib import Path

import pytest
import torch

from recipes.shared.data import texts
from recipes.shared.data.labelled_texts import (
    PADDING,
    UNKNOWN,
    LabelledTexts,
    Vocabulary,
    assemble_texts,
    words_of,
)
from recipes.shared.data.texts import MASKED, PACKAGES, docstrings, load_texts, text_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two topics of twelve texts."""
    for topic, word in (("sport", "match"), ("business", "market")):
        (tmp_path / topic).mkdir()
        for number in range(12):
            (tmp_path / topic / f"{number:03}.txt").write_text(f"The {word} of day {number}.")
    return tmp_path


def test_letters_of_all_languages_are_words() -> None:
    assert words_of("Ça va, l'été à 3,5 % ? snake_case") == [
        "ça", "va", "l'été", "à", "3,5", "snake", "case",
    ]  # fmt: skip


def test_a_text_is_cut_off_padded_and_masked() -> None:
    vocabulary = Vocabulary.of([["a", "b"], ["a", "b"]])
    both = LabelledTexts([["a"], ["b", "c", "a", "b"]], [0, 1], vocabulary, length=3)
    a, b = vocabulary.numbers(["a", "b"])
    assert both.input_ids.tolist() == [[a, PADDING, PADDING], [b, UNKNOWN, a]]
    assert both[0]["attention_mask"].tolist() == [1, 0, 0]
    assert both.words.tolist() == [[0, -1, -1], [0, 1, 2]]
    part = both.part(torch.tensor([1]))
    assert (part.texts, part.labels.tolist(), len(both)) == ([["b", "c", "a"]], [1], 2)


def test_the_vocabulary_is_that_of_the_training_alone() -> None:
    many = [[f"only{i}", "all"] for i in range(50)]
    data = assemble_texts("many", many, [0, 1] * 25, ["x", "y"], length=2, seed=0)
    assert data.vocabulary.words[2:] == ("all",)
    assert (len(data.train), len(data.test)) == (40, 10)
    assert data.test.labels.bincount().tolist() == [5, 5]


def test_a_folder_of_topics(folder: Path) -> None:
    (folder / "sport" / "latin.txt").write_bytes("caf\xe9 match".encode("latin-1"))
    data = text_folder(folder, length=10, seed=0)
    assert data.classes == ("business", "sport")
    assert len(data.train) + len(data.test) == 25
    for split in (data.train, data.test):
        for text, label in zip(split.texts, split.labels.tolist(), strict=True):
            assert ("market", "match")[label] in text


def test_a_folder_that_has_no_topics_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="is no folder"):
        text_folder(folder / "nowhere", 10, 0)
    with pytest.raises(ValueError, match="0 topics"):
        text_folder(folder / "sport", 10, 0)
    (folder / "few").mkdir()
    with pytest.raises(ValueError, match=r"fewer than 10 files in \{'few': 0\}"):
        text_folder(folder, 10, 0)


def test_docstrings_do_not_name_their_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = " ".join(["a NumPy array, np.array of numpy, in words"] * 10)
    for package in ("one", "two"):
        (tmp_path / package).mkdir()
        functions = [f'def f{i}():\n    """{package} {i} {text}"""\n' for i in range(12)]
        source = "\n".join([*functions, functions[0], 'def short():\n    """Too short."""\n'])
        (tmp_path / package / "__init__.py").write_text(source)
        (tmp_path / package / "broken.py").write_text("def :")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(texts, "PACKAGES", {"one": ("one", "numpy", "np"), "two": ("two",)})
    data = docstrings(length=100, seed=0)
    assert len(data.train) + len(data.test) == 24
    words = {word for split in (data.train, data.test) for text in split.texts for word in text}
    assert MASKED in words
    assert not words & {"numpy", "np", "one", "two"}


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "PACKAGES", {"no_such_package": ()})
    with pytest.raises(ModuleNotFoundError, match="no_such_package is not installed"):
        docstrings(10, 0)


def test_names_of_packages_are_single_words() -> None:
    # A name with a sign in it would never be met among words.
    assert all(words_of(alias) == [alias] for names in PACKAGES.values() for alias in names)


def test_20_newsgroups_are_fetched_by_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    class Found:
        data = ["a goal", "", "a market"] * 10
        target = torch.tensor([0, 1, 1] * 10)
        target_names = ("rec.sport", "misc.forsale")

    import sklearn.datasets

    monkeypatch.setattr(sklearn.datasets, "fetch_20newsgroups", lambda **_: Found)
    data = load_texts("20newsgroups", length=4)
    assert len(data.train) + len(data.test) == 20  # without those that are empty
    assert data.name == "20 newsgroups"
    assert "sklearn" in sys.modules
