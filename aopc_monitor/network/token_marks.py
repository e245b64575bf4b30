"""Token ids with marks: which of them a network is to see as a vector of zeros, or not at all.

A mark is a negative number in the place of the id, so that a batch of perturbed documents is one
tensor of whole numbers, as a batch of perturbed images is one of pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from aopc_monitor.network.further_inputs import Inputs, called, each, selected
from aopc_monitor.network.memory import is_out_of_memory
from aopc_monitor.network.word_vectors import WordVectors, no_embedding
from aopc_monitor.utilities.error_text import said_by, shortened

# Between the marks of both kinds: more than any vocabulary, and still of a 32-bit number.
_LEFT_OUT = 2**30


class ShortDocumentError(ValueError):
    """A network does not take what is left of a document."""


class UnknownTokenError(IndexError):
    """A network has no vector for a token id."""


def are_tokens(inputs: Tensor) -> bool:
    """Whether these are token ids, which are whole numbers, marked or not.

    Example:
        >>> are_tokens(torch.tensor([[2, 7]])), are_tokens(torch.rand(1, 3, 8, 8))
        (True, False)
    """
    return not inputs.is_floating_point()


def zeroed(ids: Tensor) -> Tensor:
    """The same tokens, marked: the network sees zeros in place of their vectors.

    Example:
        >>> zeroed(torch.tensor([0, 5]))
        tensor([-1, -6])
    """
    return ~ids


def left_out(ids: Tensor) -> Tensor:
    """The same tokens, marked: the network does not see them, and its input is shorter."""
    return ~ids - _LEFT_OUT


def decoded(marked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The ids, which of them are zeroed and which are left out.

    Example:
        >>> ids = torch.tensor([3, 4, 5])
        >>> marked = torch.stack([ids[0], zeroed(ids[1]), left_out(ids[2])])
        >>> [part.tolist() for part in decoded(marked)]
        [[3, 4, 5], [False, True, False], [False, False, True]]
    """
    is_left_out = marked < -_LEFT_OUT
    codes = torch.where(is_left_out, marked + _LEFT_OUT, marked)
    return torch.where(codes < 0, ~codes, codes), (codes < 0) & ~is_left_out, is_left_out


def answer_to_tokens(marked: Tensor, inputs: Inputs, call: Callable[..., Any]) -> Any:
    """What a network returns for tokens (N, T), of which none is left out.

    Args:
        marked: the ids, those that are to be zeros marked.
        inputs: what the network takes beside them, a row for each document.
        call: the network.

    Raises:
        NoEmbeddingError: if vectors are to be zeros, and the network looks none up.
        UnknownTokenError: if an id is outside of the network's vocabulary.
    """
    ids, are_zero, _ = decoded(marked)
    with WordVectors(ids, lambda vectors: vectors.masked_fill(are_zero[..., None], 0.0)) as mode:
        try:
            answer = called(call, ids, inputs)
        except IndexError as error:
            raise UnknownTokenError(
                f"the network failed on token ids up to {int(ids.max())} ({said_by(error)}): ids "
                "of texts, and the id of replacement=MaskToken(id), must be below the size of its "
                "vocabulary"
            ) from error
    if not mode.found and bool(are_zero.any()):
        raise no_embedding()
    return answer


def outputs_of_tokens(
    marked: Tensor, inputs: Inputs, outputs: Callable[[Tensor, Inputs, Tensor], Tensor]
) -> Tensor:
    """Outputs of documents, each without the tokens that are marked as left out.

    Documents of the same length that is left go through the network together.

    Args:
        marked: (N, T) ids and marks.
        inputs: what the network takes beside them; entries of T columns lose the same ones.
        outputs: from tokens, of which none is left out, such inputs, and which of the documents
            these are, to a row for each.

    Returns:
        A row for each document.

    Raises:
        ShortDocumentError: if nothing is left of a document, or the network refuses what is.
    """
    is_kept = ~decoded(marked)[2]
    if bool(is_kept.all()):
        return outputs(marked, inputs, torch.arange(len(marked), device=marked.device))
    lengths, found, places = is_kept.sum(dim=1), [], []
    for length in lengths.unique().tolist():
        rows = (lengths == length).nonzero()[:, 0]
        columns = is_kept[rows].nonzero()[:, 1].view(len(rows), length)
        shorter = _columns(selected(inputs, len(rows), rows), columns, marked.shape[1])
        ids = marked[rows].gather(1, columns)
        found.append(_outputs_of_short(ids, marked.shape[1], partial(outputs, ids, shorter, rows)))
        places.append(rows)
    return torch.cat(found)[torch.cat(places).argsort()]


def _outputs_of_short(ids: Tensor, before: int, outputs: Callable[[], Tensor]) -> Tensor:
    length = ids.shape[1]
    why = "nothing is left of it"
    if length:
        try:
            return outputs()
        except Exception as error:  # whatever a forward may raise
            if is_out_of_memory(error):
                raise
            why = f"the model raised {type(error).__name__}: {shortened(said_by(error))}"
            cause: Exception | None = error
    else:
        cause = None
    raise ShortDocumentError(
        f'replacement="left_out" makes {length} tokens of a document of {before}, and {why}: take '
        "fewer steps (where steps are shares of the words, the last one leaves all of them out), "
        'pad documents with as many tokens as the model needs, or take "zero"'
    ) from cause


def _columns(inputs: Inputs, columns: Tensor, width: int) -> Inputs:
    """Inputs with some of the columns of all entries that have one for each token."""
    rows = torch.arange(len(columns), device=columns.device)[:, None]

    def chosen(entry: Tensor) -> Tensor:
        is_of_tokens = entry.ndim >= 2 and entry.shape[1] == width
        return entry[rows.to(entry.device), columns.to(entry.device)] if is_of_tokens else entry

    return each(inputs, chosen)
