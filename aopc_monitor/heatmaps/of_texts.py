"""Heatmaps of texts: those of the series of word vectors that a network looks up for its ids.

A heatmap is given a network of word vectors (N, D, T) in the place of one of ids (N, T), so that
gradients, rules and baselines are those of a series of D channels. The relevance of a token is what
arrives at its vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from aopc_monitor.network.asked import AskedNetwork
from aopc_monitor.network.embedded_network import EmbeddedNetwork
from aopc_monitor.network.further_inputs import Inputs, accepted
from aopc_monitor.network.isolation import untouched
from aopc_monitor.network.token_marks import are_tokens
from aopc_monitor.network.usual_chunks import MOST_BACKWARD
from aopc_monitor.network.wrappers import unwrapped
from aopc_monitor.perturbation.token_batch import TokenBatch, checked_ids, is_token_batch

# A heatmap, as `base.Heatmap` tells.
Make: TypeAlias = "Callable[..., Tensor]"


def are_texts(images: Any) -> bool:
    """Whether these are texts: a mapping with `input_ids`, or ids themselves.

    Example:
        >>> are_texts(torch.tensor([[3, 4]])), are_texts(torch.rand(2, 3, 8, 8))
        (True, False)
    """
    if isinstance(images, Tensor):
        return images.ndim == 2 and are_tokens(images)
    return is_token_batch(images)


def asked_with(model: nn.Module, texts: Tensor | Mapping[str, Any]) -> tuple[AskedNetwork, Tensor]:
    """A network as it is asked with texts, and their ids."""
    if isinstance(texts, Tensor):
        ids, inputs = checked_ids(texts), _inputs_of(model)
    else:
        taken = TokenBatch.of(texts)
        ids, inputs = taken.ids, taken.inputs
    if isinstance(model, AskedNetwork):
        return model, ids
    network = unwrapped(model)
    return AskedNetwork(network, inputs=accepted(inputs, network)), ids


def relevance_of_texts(
    make: Make, model: nn.Module, texts: Tensor | Mapping[str, Any], target: Tensor | None
) -> Tensor:
    """(N, T) relevance of each token; the model is left as it was.

    Args:
        make: a heatmap.
        model: network of token ids.
        texts: ids (N, T), or a mapping with them as `input_ids` and with what goes beside them.
        target: (N,) explained classes; the predictions if not given.
    """
    asked, ids = asked_with(model, texts)
    with untouched(asked):
        if target is None:
            with torch.no_grad():
                target = asked(ids).argmax(dim=1)
        parts = [
            make(embedded, vectors, target[rows])
            for embedded, vectors, rows in embedded_parts(asked, ids, make)
        ]
    return torch.cat(parts)


def embedded_parts(
    asked: AskedNetwork, ids: Tensor, make: object
) -> Iterator[tuple[EmbeddedNetwork, Tensor, slice]]:
    """Networks of word vectors and these vectors, for as many texts at once as a heatmap takes.

    Nothing tells which text a heatmap asks for that asks for others than those it is given, so that
    it is given one at a time.
    """
    size = MOST_BACKWARD if getattr(make, "keeps_rows", False) else 1
    for start in range(0, len(ids), size):
        end = min(start + size, len(ids))
        yield *embedded(asked.of(start, end), ids[start:end]), slice(start, end)


def embedded(asked: AskedNetwork, ids: Tensor) -> tuple[EmbeddedNetwork, Tensor]:
    """A network of the word vectors of ids (N, T), and these vectors (N, D, T)."""
    network = EmbeddedNetwork.of_ids(asked, ids)
    return network, network.vectors()


def relevance_of(make: Make, model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    """A heatmap of images, or of as many texts as it takes at once, inside `untouched`."""
    if isinstance(model, AskedNetwork) and are_texts(images) and getattr(make, "asks_model", True):
        model, images = embedded(model, images)
    return make(model, images, target)


def for_texts(make: Make) -> Make:
    """The heatmap as it suits word vectors, if it has a choice of its own for them."""
    choose = getattr(make, "for_texts", None)
    return make if choose is None else cast("Make", choose())


def texts_to_check(
    make: Make, model: nn.Module, texts: Tensor | Mapping[str, Any]
) -> tuple[nn.Module, Tensor]:
    """A network and its inputs, for a heatmap to be tried on: of as many texts as it takes."""
    asked, ids = asked_with(model, texts)
    if not getattr(make, "asks_model", True):
        return asked, ids
    with untouched(asked):
        network, vectors, _ = next(embedded_parts(asked, ids, make))
    return network, vectors


def _inputs_of(model: nn.Module) -> Inputs:
    return model.inputs if isinstance(model, AskedNetwork) else ()
