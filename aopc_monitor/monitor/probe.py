"""The probe: which inputs are looked at again and again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from aopc_monitor.metrics.reference_classes import ReferenceClasses
from aopc_monitor.monitor.loaders import BLOCK_SIZE
from aopc_monitor.network.further_inputs import Inputs, each, selected
from aopc_monitor.perturbation.token_batch import is_token_batch


@dataclass(frozen=True)
class Probe:
    """A fixed set of images, or of inputs of another kind, kept on the CPU.

    Attributes:
        images: `(N, C, *space)` as the network sees them, (N, F) of a table, or token ids (N, T).
        labels: (N,) class indices, (N, K) truth values of independent labels, `(N, *space)`
            classes of pixels, or None. They are
            used for nothing but the accuracy.
        notes: what people should know of how it was taken.
        inputs: what the network's forward takes beside the images, one row for each image.
        words: (N, T) the word of each token, -1 for those in none; None for other inputs.
        lengths: (N,) tokens that each text came with, together with those of its batch, where these
            differ: the network sees so many, and no more.
        reference: what the fixed reference predicts of the images, if there is one.
    """

    images: Tensor
    labels: Tensor | None
    notes: tuple[str, ...] = ()
    inputs: Inputs = ()
    words: Tensor | None = None
    lengths: Tensor | None = None
    reference: ReferenceClasses | None = None

    @property
    def fingerprint(self) -> str:
        """The same for the same images, and for no others."""
        found = hashlib.blake2b(digest_size=8)
        for part in (self.images, self.words, self.lengths):
            if part is not None:
                found.update(part.contiguous().view(torch.uint8).numpy().tobytes())
        return found.hexdigest()

    def blocks(self, rank: int = 0, world_size: int = 1) -> Iterator[Probe]:
        """This process's share, in blocks of one length that all processes agree on."""
        for rows in self.rows_of_blocks()[rank::world_size]:
            yield self.part(rows)

    def rows_of_blocks(self) -> list[Sequence[int]]:
        """Which images each block has."""
        return [
            chunk
            for same in self._of_one_length()
            for chunk in (same[i : i + BLOCK_SIZE] for i in range(0, len(same), BLOCK_SIZE))
        ]

    def part(self, rows: Sequence[int]) -> Probe:
        """Some of its images, as long as the longest of them."""
        chosen = torch.tensor(list(rows))
        labels, words, lengths = (
            None if entry is None else entry[chosen]
            for entry in (self.labels, self.words, self.lengths)
        )
        inputs = selected(self.inputs, len(chosen), chosen)
        reference = None if self.reference is None else self.reference.part(chosen)
        whole = Probe(self.images[chosen], labels, self.notes, inputs, words, lengths, reference)
        return whole if lengths is None else whole._cut(int(lengths.max()))

    def few(self, count: int) -> Probe:
        """The first images, at most so many, of one length."""
        return self.part(self._of_one_length()[0][:count])

    def _of_one_length(self) -> list[Sequence[int]]:
        """Rows of the same length, in their order."""
        if self.lengths is None:
            return [range(len(self.images))]
        of_each = self.lengths.tolist()
        return [
            [row for row, other in enumerate(of_each) if other == length]
            for length in sorted(set(of_each))
        ]

    def _cut(self, length: int) -> Probe:
        """As if nothing longer had been there."""
        whole = self.images.shape[1]

        def cut(entry: Tensor) -> Tensor:
            return entry[:, :length] if entry.ndim > 1 and entry.shape[1] == whole else entry

        words = None if self.words is None else cut(self.words)
        inputs = each(self.inputs, cut)
        return replace(self, images=cut(self.images), inputs=inputs, words=words)


def named_sources(dataloader: Any) -> dict[str, Any]:
    """Where probes come from, by name: "" for a single one, nothing for none.

    Raises:
        ValueError: for a dict without loaders, or names that are no text.

    Example:
        >>> named_sources({"val": [], "target_domain": []}), named_sources([]), named_sources(None)
        ({'val': [], 'target_domain': []}, {'': []}, {})
    """
    if dataloader is None:
        return {}
    if is_token_batch(dataloader):  # a mapping, too, and no loaders by name
        return {"": [dataloader]}
    if not isinstance(dataloader, Mapping):
        return {"": dataloader}
    if not dataloader or not all(isinstance(name, str) and name for name in dataloader):
        raise ValueError(
            f"dataloader={dict(dataloader)!r} must hold one or more loaders by their names, as in "
            '{"val": val_loader, "target_domain": target_loader}'
        )
    return dict(dataloader)
