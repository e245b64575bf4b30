from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from torch.utils.data import DataLoader

from aopc_monitor.monitor.dashboard.words import text_function, text_of

WORDS = ["<pad>", "good", "film"]


class Tokenizer:
    def decode(self, ids: list[int]) -> str:
        assert isinstance(ids, list)
        return "".join("good film"[5 * i : 5 * i + 5] for i in ids)


class Vocabulary:
    def get_itos(self) -> list[str]:
        return WORDS


@pytest.mark.parametrize(
    "tokenizer",
    [
        WORDS,
        dict(zip(WORDS, range(3), strict=True)),
        Vocabulary(),
        lambda ids: " ".join(WORDS[i] for i in ids),
    ],
)
def test_ids_become_words(tokenizer: Any) -> None:
    function = text_of(tokenizer)
    assert function is not None
    assert function([1, 2]) == "good film"


def test_tokenizers_put_parts_of_words_together() -> None:
    function = text_of(Tokenizer())
    assert function is not None
    assert function([0, 1]) == "good film"
    assert text_of("a text") is None
    assert text_of(None) is None


def test_an_id_beyond_the_list_is_named_by_itself() -> None:
    function = text_of(WORDS)
    assert function is not None
    assert function([2, 9]) == "film #9"


def test_what_is_given_goes_first_and_the_data_last() -> None:
    data: Any = [0]
    loader: Any = DataLoader(data, collate_fn=lambda items: items)
    module = SimpleNamespace()
    assert text_function(None, module, loader)([1]) == "#1"
    loader.collate_fn.tokenizer = ["a", "of the collator"]
    assert text_function(None, module, loader)([1]) == "of the collator"
    module.vocabulary = ["a", "of the module"]
    assert text_function(None, module, loader)([1]) == "of the module"
    assert text_function(["a", "given"], module, loader)([1]) == "given"
