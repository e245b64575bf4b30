"""A batch of texts as tokenizers and loaders give it: ids, what goes with them, and its words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aopc_monitor.network.further_inputs import Inputs, Place
from aopc_monitor.utilities.batches import LABEL_KEYS, BatchFormError, told_of
from aopc_monitor.utilities.checks import plain_tensor

IDS_KEY = "input_ids"
# What tokenizers and loaders put beside the ids that is no input of a network.
NOT_INPUTS = frozenset({
    *LABEL_KEYS, "word_ids", "special_tokens_mask", "offset_mapping", "length", "idx",
    "overflow_to_sample_mapping", "num_truncated_tokens", "overflowing_tokens",
})  # fmt: skip
NO_WORD = -1


@dataclass(frozen=True)
class TokenBatch:
    """A batch of texts, taken apart.

    Attributes:
        ids: (N, T) token ids.
        inputs: what the network is given by name, with the place of the ids.
        words: (N, T) the word of each token, counted from 0 in each text, and -1 for special tokens
            and padding, which are never perturbed.
        words_are: how the words were found, for people.
    """

    ids: Tensor
    inputs: Inputs
    words: Tensor
    words_are: str

    @classmethod
    def of(cls, batch: Mapping[str, Any]) -> TokenBatch:
        """Take a batch with `input_ids` apart.

        Words are the entry `word_ids` (a tensor with -1 or lists with None where no word is), or
        what a `BatchEncoding` of a fast tokenizer knows; else each token that the `attention_mask`
        keeps and the `special_tokens_mask` does not name is a word.

        Raises:
            TypeError: for ids that are no whole numbers (N, T).
            ValueError: for masks or word numbers that do not fit them.

        Example:
            >>> batch = {"input_ids": torch.tensor([[1, 7, 8, 9, 2, 0]]),
            ...          "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 0]]),
            ...          "word_ids": [[None, 0, 0, 1, None, None]]}
            >>> TokenBatch.of(batch).words.tolist()
            [[-1, 0, 0, 1, -1, -1]]
        """
        ids = checked_ids(batch[IDS_KEY], IDS_KEY)
        can_change = torch.ones_like(ids, dtype=torch.bool)
        for name, kept in (("attention_mask", 1), ("special_tokens_mask", 0)):
            if name in batch:
                can_change &= _mask(batch[name], name, ids) == kept
        words, words_are = _words(batch, ids)
        if words is None:
            words = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        words = renumbered(words.masked_fill(~can_change, NO_WORD))
        return cls(ids, _inputs(batch, ids), words, words_are)


def is_token_batch(batch: Any) -> bool:
    """Whether a batch is a mapping with token ids, as tokenizers give it.

    Example:
        >>> is_token_batch({"input_ids": torch.tensor([[2]])}), is_token_batch(torch.tensor([[2]]))
        (True, False)
    """
    return isinstance(batch, Mapping) and IDS_KEY in batch


def check_no_mask_follows(batch: Any) -> None:
    """Raise BatchFormError for a tuple of ids, their mask and more: the mask would be left out.

    Example:
        >>> ids = torch.tensor([[5, 3, 0]])
        >>> check_no_mask_follows((ids, torch.tensor([1])))
    """
    if not isinstance(batch, (tuple, list)) or len(batch) < 3:
        return
    ids, mask = batch[:2]
    if not (isinstance(ids, Tensor) and isinstance(mask, Tensor) and ids.shape == mask.shape):
        return
    if ids.ndim == 2 and not ids.is_floating_point() and bool(((mask == 0) | (mask == 1)).all()):
        raise BatchFormError(
            "batch[0] holds token ids and batch[1] what looks like their attention mask, which the "
            'network would not be given: give batches of ({"input_ids": ..., "attention_mask": '
            "...}, labels), or images_fn= and labels_fn= where there are such arguments"
        )


def checked_ids(ids: Any, name: str = "images") -> Tensor:
    """Token ids as a plain tensor (N, T).

    Raises:
        TypeError, ValueError: for anything else.
    """
    if isinstance(ids, (list, tuple)):
        ids = torch.as_tensor(ids)
    if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.dtype == torch.bool:
        raise TypeError(
            f"{name} is {told_of(ids)}; wanted are token ids, whole numbers (N, T). Inputs of "
            "other kinds, such as images, are given as the tensor itself"
        )
    if ids.ndim != 2 or ids.numel() == 0:
        raise ValueError(
            f"{name} has shape {tuple(ids.shape)}; wanted are token ids (N, T) of at least one "
            "text: add the batch dimension with ids[None]"
        )
    if bool((ids < 0).any()):
        raise ValueError(f"{name} holds {int(ids.min())}: token ids are counted from 0")
    return plain_tensor(ids)


def renumbered(words: Tensor) -> Tensor:
    """Word numbers (N, T) counted from 0 without a gap in each text, in their order.

    Example:
        >>> renumbered(torch.tensor([[-1, 4, 4, 9], [2, -1, 7, 2]]))
        tensor([[-1,  0,  0,  1],
                [ 0, -1,  1,  0]])
    """
    rows = torch.arange(len(words), device=words.device)[:, None] * (int(words.max()) + 2)
    found, place = (words + 1 + rows).unique(return_inverse=True)
    is_word = words != NO_WORD
    first = torch.where(is_word, place, len(found)).amin(dim=1, keepdim=True)
    return torch.where(is_word, place - first, NO_WORD)


def _mask(entry: Any, name: str, ids: Tensor) -> Tensor:
    mask = entry if isinstance(entry, Tensor) else torch.as_tensor(entry)
    if mask.shape != ids.shape:
        raise ValueError(
            f"{name} has shape {tuple(mask.shape)}; wanted is {tuple(ids.shape)}, as the ids have"
        )
    return plain_tensor(mask).to(ids.device).long()


def _inputs(batch: Mapping[str, Any], ids: Tensor) -> Inputs:
    """The tensors that a network may take, by their names."""
    inputs: dict[str, Any] = {IDS_KEY: Place.FIRST}
    for name, entry in batch.items():
        is_label = name in NOT_INPUTS or "label" in str(name).lower()
        entry = None if name == IDS_KEY or is_label else _as_tensor(entry, ids)
        if entry is None:
            continue
        if entry.ndim and len(entry) != len(ids):
            raise ValueError(
                f"{name} has {len(entry)} rows for {len(ids)} texts: wanted is one for each"
            )
        inputs[str(name)] = plain_tensor(entry).detach().to(ids.device)
    return inputs


def _as_tensor(entry: Any, ids: Tensor) -> Tensor | None:
    """A tensor, also of lists and arrays with a number for each token; None of anything else."""
    if isinstance(entry, Tensor):
        return entry
    try:
        made = torch.as_tensor(entry)
    except (TypeError, ValueError, RuntimeError):
        return None
    return made if made.shape == ids.shape else None


def _words(batch: Mapping[str, Any], ids: Tensor) -> tuple[Tensor | None, str]:
    given = batch.get("word_ids") if not callable(batch.get("word_ids")) else None
    if given is not None:
        return _checked_words(_as_numbers(given, ids), ids), "words by word_ids"
    told = _words_of_tokenizer(batch, len(ids))
    if told is not None:
        return _as_numbers(told, ids), "words of the tokenizer"
    return None, "each token a word"


def _words_of_tokenizer(batch: Any, count: int) -> list[list[int | None]] | None:
    """Word numbers that a `BatchEncoding` of a fast tokenizer knows; those of a pair go on."""
    word_ids: Callable[[int], Sequence[int | None]] | None = getattr(batch, "word_ids", None)
    if word_ids is None or not getattr(batch, "is_fast", False):
        return None
    if len(getattr(batch, "encodings", None) or ()) != count:  # rows were chosen since
        return None
    return [_of_one(word_ids(i), batch.sequence_ids(i)) for i in range(count)]


def _of_one(words: Sequence[int | None], sequences: Sequence[int | None]) -> list[int | None]:
    """The words of one text, or of a pair, of which each counts from 0."""
    known = [word for word in words if word is not None]
    after = max(known, default=0) + 1
    return [
        None if word is None else word + after * (sequence or 0)
        for word, sequence in zip(words, sequences, strict=True)
    ]


def _as_numbers(words: Any, ids: Tensor) -> Tensor:
    """(N, T) word numbers, -1 where none is."""
    if not isinstance(words, Tensor):
        lengths = {len(row) for row in words}
        if len(lengths) > 1:
            raise ValueError(
                f"word_ids has rows of {min(lengths)} to {max(lengths)} words; wanted is "
                f"{tuple(ids.shape)}, None for padding as well"
            )
        words = torch.tensor([[NO_WORD if word is None else word for word in row] for row in words])
    if words.shape != ids.shape:
        raise ValueError(
            f"word_ids has shape {tuple(words.shape)}; wanted is {tuple(ids.shape)}, the word of "
            "each token, and -1 or None for special tokens and padding"
        )
    return plain_tensor(words).to(ids.device).long().clamp(min=NO_WORD)


def _checked_words(words: Tensor, ids: Tensor) -> Tensor:
    """The numbers as they came, if none is skipped and none comes back after another one."""
    for text, row in enumerate(words.tolist()):
        numbers = [word for word in row if word != NO_WORD]
        runs = [w for w, before in zip(numbers, [None, *numbers], strict=False) if w != before]
        if len(set(runs)) < len(runs):
            twice = next(w for w in runs if runs.count(w) > 1)
            raise ValueError(
                f"word_ids has word {twice} of text {text} in two places: number the words of a "
                "second text on from those of the first; regions= may be anywhere"
            )
        gaps = set(range(max(runs, default=-1) + 1)) - set(runs)
        if gaps:
            raise ValueError(
                f"word_ids skips word {min(gaps)} of text {text}, which has words up to "
                f"{max(runs)}: number the words of each text from 0 without a gap"
            )
    return words
