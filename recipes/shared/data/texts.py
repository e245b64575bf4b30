"""The text sets of the recipes: a folder of files, 20 newsgroups, docstrings of packages."""

from __future__ import annotations

import ast
import importlib.util
import random
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from recipes.shared.data.labelled_texts import TextData, assemble_texts, words_of

# What a docstring would give its package away by, beside the package's own name.
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "matplotlib": ("matplotlib", "mpl", "plt", "pyplot"),
    "numpy": ("numpy", "np"),
    "scipy": ("scipy", "sp"),
    "sklearn": ("sklearn", "scikit", "learn"),
    "torch": ("torch", "pytorch", "aten"),
}
MASKED = "package"
_FEWEST_WORDS, _OF_A_PACKAGE = 60, 700
_DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)


def text_folder(root: Path, length: int, seed: int) -> TextData:
    """Texts of a folder `root/TOPIC/*.txt`.

    Args:
        root: the folder.
        length: words of a text that are kept.
        seed: of the split into training and test.

    Raises:
        ValueError: unless there are at least two topics of at least ten files each.
    """
    if not root.is_dir():
        raise ValueError(f"text folder {str(root)!r} is no folder: give one of TOPIC/*.txt")
    files = {
        folder.name: sorted(folder.glob("*.txt"))
        for folder in sorted(root.iterdir())
        if folder.is_dir()
    }
    few = {topic: len(of_topic) for topic, of_topic in files.items() if len(of_topic) < 10}
    if len(files) < 2 or few:
        raise ValueError(
            f"text folder {str(root)!r} has {len(files)} topics"
            + (f", and fewer than 10 files in {few}" if few else "")
            + ": wanted are at least two folders TOPIC with at least 10 files *.txt each"
        )
    topics = list(files)
    texts, labels = [], []
    for label, topic in enumerate(topics):
        for file in files[topic]:
            # A byte that is no UTF-8 costs its word, not the file.
            texts.append(words_of(file.read_text(encoding="utf-8", errors="replace")))
            labels.append(label)
    return assemble_texts(root.resolve().name, texts, labels, topics, length, seed)


def newsgroups(length: int, seed: int) -> TextData:
    """The 20 newsgroups, which scikit-learn downloads, without headers, footers and quotes.

    Args:
        length: words of a text that are kept.
        seed: of the split into training and test.
    """
    from sklearn.datasets import fetch_20newsgroups

    found = fetch_20newsgroups(subset="all", remove=("headers", "footers", "quotes"))
    texts = [words_of(text) for text in found.data]
    kept = [row for row, text in enumerate(texts) if text]
    labels = [int(found.target[row]) for row in kept]
    chosen = [texts[row] for row in kept]
    return assemble_texts("20 newsgroups", chosen, labels, found.target_names, length, seed)


def docstrings(length: int, seed: int) -> TextData:
    """Docstrings of installed packages, to be sorted by the package that they come from.

    The names of the packages are masked out. A docstring that comes twice, inherited or copied, is
    kept once.

    Args:
        length: words of a text that are kept.
        seed: of the docstrings that are taken, and of the split into training and test.
    """
    texts, labels = [], []
    for label, package in enumerate(PACKAGES):
        of_package = list(
            islice(_masked(package, random.Random(f"{seed} {package}")), _OF_A_PACKAGE)
        )
        texts += of_package
        labels += [label] * len(of_package)
    return assemble_texts("docstrings", texts, labels, list(PACKAGES), length, seed)


def _masked(package: str, order: random.Random) -> Iterator[list[str]]:
    """Different docstrings of a package, as words of which none is the name of a package."""
    names = {alias for aliases in PACKAGES.values() for alias in aliases}
    seen = set()
    for text in _docstrings(package, order):
        words = [MASKED if word in names else word for word in words_of(text)]
        if len(words) >= _FEWEST_WORDS and (key := tuple(words)) not in seen:
            seen.add(key)
            yield words


def _docstrings(package: str, order: random.Random) -> Iterator[str]:
    """All docstrings of a package's source, its files in random order; nothing is imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"{package} is not installed: its docstrings are texts of this recipe; it comes with "
            'the extra "recipes"'
        )
    files = sorted(Path(spec.origin).parent.rglob("*.py"))
    order.shuffle(files)
    for file in files:
        if "tests" not in file.parts and "testing" not in file.parts:
            yield from _documented(file.read_text(encoding="utf-8", errors="replace"))


def _documented(source: str) -> Iterator[str]:
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a template, or code for another version of Python
        return
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and (text := ast.get_docstring(node)):
            yield text


def load_texts(
    dataset: str, folder: Path | None = None, length: int | None = None, seed: int = 0
) -> TextData:
    """The text set of that name, or of a folder if one is given.

    Args:
        dataset: one of `TEXT_SETS`.
        folder: of `TOPIC/*.txt`.
        length: words of a text that are kept; chosen to fit if not given.
        seed: of the split into training and test.
    """
    if folder is not None:
        return text_folder(folder, length or _LONG, seed)
    read, usual = TEXT_SETS[dataset]
    return read(length or usual, seed)


# Docstrings are short, and padding costs as much as words.
_LONG = 400
TEXT_SETS = {"docstrings": (docstrings, 200), "20newsgroups": (newsgroups, _LONG)}
TEXT_SET_NAMES = tuple(TEXT_SETS)
