"""Labelled texts as the recipes hand them out: word numbers of one length, with their mask."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property

import torch
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import Dataset

from recipes.shared.data.labelled_images import TrainingPlan

PADDING, UNKNOWN = 0, 1
# The vocabulary follows these two.
_RESERVED = ("<padding>", "<unknown>")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?|\d+(?:[.,]\d+)*")
_SHARE_OF_TEST = 0.2
_PLAN = TrainingPlan(max_epochs=8, batch_size=32, learning_rate=4e-3)


def words_of(text: str) -> list[str]:
    """The words and numbers of a text, in lower case.

    Example:
        >>> words_of("The Fed's rate rose by 0.25 - again.")
        ['the', "fed's", 'rate', 'rose', 'by', '0.25', 'again']
    """
    return _WORD.findall(text.lower())


@dataclass(frozen=True)
class Vocabulary:
    """The words that a network knows, and their numbers.

    Attributes:
        words: word number i is `words[i]`; number 0 pads, number 1 stands for all other words.

    Example:
        >>> vocabulary = Vocabulary.of([["a", "match"], ["a", "goal"]], fewest=2)
        >>> vocabulary.words, vocabulary.numbers(["a", "goal"])
        (('<padding>', '<unknown>', 'a'), [2, 1])
    """

    words: tuple[str, ...]

    @classmethod
    def of(cls, texts: Sequence[Sequence[str]], fewest: int = 2) -> Vocabulary:
        """All words that at least so many of these texts have, the most frequent ones first."""
        counts = Counter(word for text in texts for word in sorted(set(text)))
        known = [word for word, count in counts.most_common() if count >= fewest]
        return cls((*_RESERVED, *known))

    def __len__(self) -> int:
        """The number of words, with the two that stand for none."""
        return len(self.words)

    def numbers(self, text: Sequence[str]) -> list[int]:
        """The numbers of the words of a text."""
        return [self._index.get(word, UNKNOWN) for word in text]

    @cached_property
    def _index(self) -> Mapping[str, int]:
        return {word: number for number, word in enumerate(self.words)}


class LabelledTexts(Dataset[dict[str, Tensor]]):
    """Labelled texts as numbers of words, padded to one length.

    Items are what networks for text take, and what the monitor understands: `input_ids` (T,),
    `attention_mask` (T,) and the label as `labels`.

    Args:
        texts: the words of each text; what is longer than `length` is cut off.
        labels: class indices.
        vocabulary: the numbers of the words.
        length: T, words of a text.
        classes: names of the classes, which the monitor shows.
    """

    def __init__(
        self,
        texts: Sequence[Sequence[str]],
        labels: Sequence[int],
        vocabulary: Vocabulary,
        length: int,
        classes: Sequence[str] = (),
    ) -> None:
        self.texts = [list(text[:length]) for text in texts]
        self.labels, self.classes = torch.tensor(labels), tuple(classes)
        self.input_ids = torch.full((len(texts), length), PADDING)
        for row, text in zip(self.input_ids, self.texts, strict=True):
            row[: len(text)] = torch.tensor(vocabulary.numbers(text))

    @property
    def words(self) -> Tensor:
        """(N, T) the number of each word in its text, -1 where none is."""
        places = torch.arange(self.input_ids.shape[1])
        return torch.where(self.input_ids != PADDING, places, -1)

    def __len__(self) -> int:
        """The number of texts."""
        return len(self.texts)

    def part(self, rows: Tensor) -> LabelledTexts:
        """Some of the texts."""
        part = copy(self)
        part.texts = [self.texts[row] for row in rows.tolist()]
        part.labels, part.input_ids = self.labels[rows], self.input_ids[rows]
        return part

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One text."""
        ids = self.input_ids[index]
        return {
            "input_ids": ids,
            "attention_mask": (ids != PADDING).long(),
            "labels": self.labels[index],
        }


@dataclass(frozen=True)
class TextData:
    """A training and a test set that share classes and words.

    Attributes:
        name: title for people.
        train: the texts of the training.
        test: the others.
        classes: names of the classes in the order of the labels.
        vocabulary: the words of the training texts.
        plan: recommended training settings.
    """

    name: str
    train: LabelledTexts
    test: LabelledTexts
    classes: tuple[str, ...]
    vocabulary: Vocabulary
    plan: TrainingPlan = _PLAN


def assemble_texts(
    name: str,
    texts: Sequence[Sequence[str]],
    labels: Sequence[int],
    classes: Sequence[str],
    length: int,
    seed: int,
) -> TextData:
    """Split texts into those of the training and a fifth for the test, class by class.

    Args:
        name: title for people.
        texts: the words of each text.
        labels: class indices.
        classes: their names.
        length: words of a text that are kept, from its beginning.
        seed: of the split.
    """
    train, test = train_test_split(
        range(len(texts)), test_size=_SHARE_OF_TEST, stratify=labels, random_state=seed
    )
    vocabulary = Vocabulary.of([texts[row] for row in train])

    def part(rows: Sequence[int]) -> LabelledTexts:
        chosen = [texts[row] for row in rows], [labels[row] for row in rows]
        return LabelledTexts(*chosen, vocabulary, length, classes)

    return TextData(name, part(train), part(test), tuple(classes), vocabulary)
