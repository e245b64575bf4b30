"""What a word becomes: a vector of zeros, the mask token, or nothing at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from aopc_monitor.network.token_marks import left_out, zeroed


@dataclass(frozen=True)
class TokenReplacement:
    """What all replacements of words share: they draw nothing, and need no data range."""

    is_random: ClassVar[bool] = False
    fresh_each_step: ClassVar[bool] = False
    needs_data_range: ClassVar[bool] = False

    def suits(self, kind: Any) -> bool:
        """Whether it is made for inputs of a kind: for token ids alone."""
        return not kind.is_dense


@dataclass(frozen=True)
class ZeroVector(TokenReplacement):
    """The word's vector becomes zero: the usual one, of Arras et al. 2016.

    The network is asked with the ids as they are, and the result of its first embedding of them has
    zeros at the words that are perturbed; vectors of positions stay. Nothing on the network is
    hooked or replaced.

    Example:
        >>> ids = torch.tensor([[3, 9]])
        >>> ZeroVector()(ids, ids, ids, torch.Generator())  # what the network is told by
        tensor([[ -4, -10]])
    """

    def __call__(
        self, images: Tensor, low: Tensor, high: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Mark (M, T) ids."""
        return zeroed(images)


@dataclass(frozen=True)
class LeftOut(TokenReplacement):
    """The word is not there: a shorter text, of shorter masks, which has a forward of its own.

    Texts of the same length go through the network together. A network may refuse texts that are
    too short, and no text may become empty: special tokens and padding stay.
    """

    def __call__(
        self, images: Tensor, low: Tensor, high: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Mark (M, T) ids."""
        return left_out(images)


@dataclass(frozen=True)
class MaskToken(TokenReplacement):
    """The word's tokens become a token of your choice, such as the mask token of a tokenizer.

    Attributes:
        id: of the token, such as `tokenizer.mask_token_id`.

    Raises:
        ValueError: unless it is a whole number from 0 on.

    Example:
        >>> ids = torch.tensor([[3, 9]])
        >>> MaskToken(103)(ids, ids, ids, torch.Generator())
        tensor([[103, 103]])
    """

    id: int

    def __post_init__(self) -> None:
        if isinstance(self.id, bool) or not isinstance(self.id, int) or self.id < 0:
            raise ValueError(
                f"id={self.id!r} must be the id of a token, such as tokenizer.mask_token_id, which "
                "not all tokenizers have"
            )

    def __call__(
        self, images: Tensor, low: Tensor, high: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Fill (M, T)."""
        return torch.full_like(images, self.id)
