"""A network of token ids as one of word vectors, which heatmaps can take gradients of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from aopc_monitor.network.asked import AskedNetwork
from aopc_monitor.network.further_inputs import Inputs, called, selected
from aopc_monitor.network.reading import Reading
from aopc_monitor.network.word_vectors import WordVectors, no_embedding


class EmbeddedNetwork(AskedNetwork):
    """A network that is given word vectors (N, D, T), a series of D channels, for its ids (N, T).

    Args:
        network: the network of token ids.
        ids: (N, T) the ids that the vectors take the place of.
        reading: how its answers are read.
        inputs: what its forward takes beside the ids; see `AskedNetwork`, also for the next.
        kept: what the summary of the reading needs.

    Example:
        >>> network = nn.Sequential(nn.EmbeddingBag(10, 3, mode="sum"), nn.Linear(3, 2))
        >>> embedded = EmbeddedNetwork(network, torch.tensor([[1, 5, 2]]))
        >>> vectors = embedded.vectors()
        >>> vectors.shape, torch.allclose(embedded(vectors), network(torch.tensor([[1, 5, 2]])))
        (torch.Size([1, 3, 3]), True)
    """

    def __init__(
        self,
        network: nn.Module,
        ids: Tensor,
        reading: Reading | None = None,
        inputs: Inputs = (),
        kept: Tensor | None = None,
    ) -> None:
        super().__init__(network, reading, inputs, kept)
        self.ids = ids

    def vectors(self) -> Tensor:
        """(N, D, T) the network's own word vectors, without gradient, inside `untouched`.

        Raises:
            NoEmbeddingError: if the network looks none up.
        """
        seen: list[Tensor] = []

        def see(vectors: Tensor) -> Tensor:
            seen.append(vectors.detach().clone())
            return vectors

        with torch.no_grad(), WordVectors(self.ids, see):
            called(self.network, self.ids, self.inputs)
        if not seen:
            raise no_embedding()
        return seen[0].transpose(1, 2).contiguous()

    def answer(
        self,
        images: Tensor,
        rows: Tensor | None = None,
        call: Callable[..., Any] | None = None,
    ) -> Any:
        """What the network returns for its ids with these vectors (M, D, T)."""
        (ids,) = cast("tuple[Tensor]", selected((self.ids,), len(images), rows))
        vectors = images.transpose(1, 2).contiguous()  # as an embedding gives them
        with WordVectors(ids, lambda _: vectors):
            return called(call or self.network, ids, selected(self.inputs, len(images), rows))

    def at(self, rows: Tensor) -> EmbeddedNetwork:
        """The same for a batch of the documents in these rows (M,)."""
        return EmbeddedNetwork.of_ids(super().at(rows), self.ids[rows.to(self.ids.device)])

    def read_by(self, reading: Reading) -> EmbeddedNetwork:
        """The same network, whose answers are read otherwise."""
        return EmbeddedNetwork.of_ids(super().read_by(reading), self.ids)

    @classmethod
    def of_ids(cls, asked: AskedNetwork, ids: Tensor) -> EmbeddedNetwork:
        """A network as it is asked, with vectors in the place of these ids."""
        return cls(asked.network, ids, asked.reading, asked.inputs, asked.kept)
