"""A batch as the doors take it: inputs of any kind, or a mapping of a text's ids and masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aopc_monitor.network.further_inputs import Inputs, given_inputs, moved
from aopc_monitor.perturbation.input_kinds import checked_inputs, kind_of
from aopc_monitor.perturbation.protocol import PerturbationProtocol
from aopc_monitor.perturbation.token_batch import TokenBatch, check_no_mask_follows, is_token_batch
from aopc_monitor.utilities.batches import images_of


@dataclass(frozen=True)
class InputBatch:
    """A batch, taken apart.

    Attributes:
        images: what is perturbed: images, inputs of another kind, or the ids of tokens.
        inputs: what the network's forward takes beside them.
        words: (N, T) the word of each token, where the batch tells; see `TokenBatch`.
    """

    images: Tensor
    inputs: Inputs = ()
    words: Tensor | None = None

    @classmethod
    def of(cls, images: Tensor | Mapping[str, Any], inputs: Any = ()) -> InputBatch:
        """Check a batch, and take it apart.

        Args:
            images: images, or what else is perturbed.
            inputs: what the network's forward takes after images, see `given_inputs`.

        Raises:
            TypeError, ValueError: for what is of no known kind.

        Example:
            >>> InputBatch.of({"input_ids": torch.tensor([[5, 8]])}).words
            tensor([[0, 1]])
        """
        if not is_token_batch(images):
            checked = checked_inputs(images)
            return cls(checked, given_inputs(inputs, len(checked)))
        taken = TokenBatch.of(images)  # type: ignore[arg-type]
        # As in the monitor: what is given takes the place of what the mapping holds.
        given = given_inputs(inputs, len(taken.ids)) or taken.inputs
        return cls(taken.ids, given, taken.words)

    @classmethod
    def found_in(
        cls, batch: Any, remedy: str, inputs_fn: Callable[[Any], Any] | None = None
    ) -> InputBatch:
        """What a batch of a loader holds: a mapping of a text or images, alone or before others.

        Args:
            batch: as a loader gives it.
            remedy: what to do about a batch of another form.
            inputs_fn: from a batch to what the network's forward takes after the images.

        Raises:
            BatchFormError: if there is neither.
        """
        first = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
        if inputs_fn is None:
            check_no_mask_follows(batch)
        inputs = () if inputs_fn is None else inputs_fn(batch)
        return cls.of(first if is_token_batch(first) else images_of(batch, remedy), inputs)

    def to(self, device: torch.device) -> InputBatch:
        """The same batch on a device."""
        words = None if self.words is None else self.words.to(device, non_blocking=True)
        images = self.images.to(device, non_blocking=True)
        return InputBatch(images, moved(self.inputs, device), words)

    def protocol(self, chosen: PerturbationProtocol, regions: Any = None) -> PerturbationProtocol:
        """The protocol for this batch, whose words are its regions unless others were given.

        Args:
            chosen: how to perturb.
            regions: of this batch, in the place of all others.
        """
        kind = kind_of(self.images)
        if chosen.data_range is not None and not kind.is_dense:
            raise ValueError(
                f"data_range={chosen.data_range!r}: {kind.name} are {kind.unit}, which have no "
                "range of values, so leave data_range out; whole numbers are taken for the ids of "
                "tokens, so give a table as floating-point numbers"
            )
        if regions is None and chosen.regions is None:
            regions = self.words
            if regions is not None and chosen.region_size is not None:
                raise ValueError(
                    f"region_size={chosen.region_size!r}: the regions of a text are its words, so "
                    "leave region_size out; word_ids in the batch or regions= tell others"
                )
            self._check_words()
        return chosen.for_inputs(self.images, regions)

    def _check_words(self) -> None:
        """Raise ValueError if a text has no word that may be perturbed."""
        if self.words is None:
            return
        without = (self.words < 0).all(dim=1).nonzero()[:, 0].tolist()
        if without:
            raise ValueError(
                f"text {without[0]} (and {len(without) - 1} more) has no word that may be "
                "perturbed: word_ids, attention_mask and special_tokens_mask leave none; leave "
                "such texts out"
            )
