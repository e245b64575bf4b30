"""Batches of texts: what is an input of the network, and which token is in which word."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aopc_monitor.network.further_inputs import Place
from aopc_monitor.perturbation.token_batch import TokenBatch, renumbered

IDS = torch.tensor([[101, 7, 8, 9, 102, 0], [101, 5, 102, 0, 0, 0]])
MASK = (IDS != 0).long()
SPECIAL = ((IDS == 101) | (IDS == 102)).long()
WORDS = [[None, 0, 0, 1, None, None], [None, 0, None, None, None, None]]


def batch(**changes: Any) -> dict[str, Any]:
    whole = {
        "input_ids": IDS,
        "attention_mask": MASK,
        "special_tokens_mask": SPECIAL,
        "labels": torch.tensor([1, 0]),
        "text": ["a text", "one more"],
    }
    return {name: entry for name, entry in {**whole, **changes}.items() if entry is not None}


def test_without_word_numbers_each_token_is_a_word() -> None:
    taken = TokenBatch.of(batch())
    assert taken.words.tolist() == [[-1, 0, 1, 2, -1, -1], [-1, 0, -1, -1, -1, -1]]
    assert taken.words_are == "each token a word"
    assert taken.ids is IDS
    unmasked = TokenBatch.of({"input_ids": IDS})
    assert unmasked.words.tolist() == [list(range(6))] * 2


def test_what_goes_to_the_network() -> None:
    inputs = TokenBatch.of(batch(token_type_ids=torch.zeros_like(IDS), word_ids=WORDS)).inputs
    assert isinstance(inputs, dict)
    assert sorted(inputs) == ["attention_mask", "input_ids", "token_type_ids"]
    assert inputs["input_ids"] is Place.FIRST


@pytest.mark.parametrize("kind", ["lists", "tensor"])
def test_given_word_numbers(kind: str) -> None:
    numbers = torch.tensor([[-1 if w is None else w for w in row] for row in WORDS])
    taken = TokenBatch.of(batch(word_ids=WORDS if kind == "lists" else numbers))
    assert taken.words.tolist() == numbers.tolist()
    assert taken.words_are == "words by word_ids"


def test_special_tokens_and_padding_are_no_words_whatever_their_number() -> None:
    numbers = torch.tensor([[0, 1, 1, 2, 3, 4], [0, 1, 2, 3, 3, 3]])
    words = TokenBatch.of(batch(word_ids=numbers)).words
    assert words.tolist() == [[-1, 0, 0, 1, -1, -1], [-1, 0, -1, -1, -1, -1]]


def tokenizer() -> Any:
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "film", "##s", "bad", "we", "saw"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]"
    )


def test_a_batch_of_a_tokenizer() -> None:
    encoded = tokenizer()(["good films", "we saw bad films"], padding=True, return_tensors="pt")
    taken = TokenBatch.of(encoded)
    assert taken.words_are == "words of the tokenizer"
    assert taken.words.tolist() == [[-1, 0, 1, 1, -1, -1, -1], [-1, 0, 1, 2, 3, 3, -1]]
    assert "attention_mask" in taken.inputs


def test_words_of_a_pair_of_texts_are_counted_on() -> None:
    encoded = tokenizer()([("good films", "bad films")], return_tensors="pt")
    assert TokenBatch.of(encoded).words.tolist() == [[-1, 0, 1, 1, -1, 2, 3, 3, -1]]


def test_words_that_a_tokenizer_cut_off_leave_no_gap() -> None:
    cutting = tokenizer()
    cutting.truncation_side = "left"
    encoded = cutting(["we saw bad films"], truncation=True, max_length=5, return_tensors="pt")
    assert TokenBatch.of(encoded).words.tolist() == [[-1, 0, 1, 1, -1]]


def test_masks_that_are_lists_or_arrays_reach_the_network() -> None:
    given = batch(attention_mask=MASK.tolist(), token_type_ids=SPECIAL.numpy(), text=["a", "b"])
    inputs: Any = TokenBatch.of(given | {"input_ids": IDS.tolist(), "row": [3, 4]}).inputs
    assert set(inputs) == {"input_ids", "attention_mask", "token_type_ids"}
    assert torch.equal(inputs["attention_mask"], MASK)
    assert torch.equal(inputs["token_type_ids"], SPECIAL)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"input_ids": torch.rand(2, 3, 8, 8)}, r"input_ids is \(2, 3, 8, 8\) float32; wanted are tok"),
    ({"input_ids": torch.rand(2, 6)}, r"input_ids is \(2, 6\) float32; wanted are token ids"),
    ({"input_ids": IDS[0]}, r"input_ids has shape \(6,\).*ids\[None\]"),
    ({"input_ids": -IDS}, "input_ids holds -102: token ids are counted from 0"),
    ({"attention_mask": MASK[:, :4]}, r"attention_mask has shape \(2, 4\); wanted is \(2, 6\)"),
    ({"token_type_ids": MASK[:1]}, "token_type_ids has 1 rows for 2 texts"),
    ({"word_ids": torch.zeros(2, 4).long()}, r"word_ids has shape \(2, 4\); wanted is \(2, 6\)"),
    ({"word_ids": [WORDS[0], [None, 0]]}, "word_ids has rows of 2 to 6 words; wanted is"),
    (
        {"word_ids": [[None, 0, 0, 2, None, None], WORDS[1]]},
        "word_ids skips word 1 of text 0, which has words up to 2",
    ),
    (
        {"word_ids": [WORDS[0], [None, 0, 1, 0, None, None]]},
        "word_ids has word 0 of text 1 in two places",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_batches_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        TokenBatch.of(batch(**changes))


@given(st.lists(st.lists(st.integers(-1, 6), min_size=5, max_size=5), min_size=1, max_size=4))
def test_renumbering_keeps_the_words_and_their_order(rows: list[list[int]]) -> None:
    for before, after in zip(rows, renumbered(torch.tensor(rows)).tolist(), strict=True):
        numbers = sorted(set(before) - {-1})
        assert after == [-1 if word == -1 else numbers.index(word) for word in before]
