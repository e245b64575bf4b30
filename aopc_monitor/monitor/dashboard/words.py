"""What the words of a text are called: by a tokenizer, or a list of words, that is near at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

# Where a module, a loader or its data set may keep what tells words.
NAMES = ("tokenizer", "vocabulary", "vocab")
TextOf = Callable[[Sequence[int]], str]


def text_function(tokenizer: Any, pl_module: Any, source: Any) -> TextOf:
    """From the ids of a word to its text.

    Args:
        tokenizer: what the user gave; see `text_of`.
        pl_module: the Lightning module, which is asked next, for an attribute `tokenizer`,
            `vocabulary` or `vocab`.
        source: the loader of the probe; then it, its `collate_fn` and its data set are asked.

    Returns:
        A function; it names the ids themselves where nothing is known.
    """
    for found in (tokenizer, *_near(pl_module, source)):
        function = text_of(found)
        if function is not None:
            return function
    return lambda ids: " ".join(f"#{i}" for i in ids)


def text_of(tokenizer: Any) -> TextOf | None:
    """The text of ids by what has `decode`, a list of words, a dict from them to ids, a callable.

    Returns:
        None for anything else.

    Example:
        >>> text_of(["<pad>", "good", "film"])([1, 2]), text_of({"good": 0, "film": 1})([1])
        ('good film', 'film')
    """
    if hasattr(tokenizer, "get_itos"):
        tokenizer = tokenizer.get_itos()
    if hasattr(tokenizer, "decode") and not isinstance(tokenizer, (str, bytes)):
        return lambda ids: str(tokenizer.decode(list(ids)))
    if isinstance(tokenizer, Mapping):
        tokenizer = {number: word for word, number in tokenizer.items()}
    elif isinstance(tokenizer, Sequence) and not isinstance(tokenizer, (str, bytes)):
        tokenizer = dict(enumerate(tokenizer))
    elif callable(tokenizer):
        return lambda ids: str(tokenizer(list(ids)))
    else:
        return None
    return lambda ids: " ".join(str(tokenizer.get(i, f"#{i}")) for i in ids)


def _near(pl_module: Any, source: Any) -> Iterator[Any]:
    owners = (pl_module, source, getattr(source, "collate_fn", None))
    for owner in (*owners, getattr(source, "dataset", None)):
        for name in NAMES:
            yield getattr(owner, name, None)
