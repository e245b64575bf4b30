"""Texts as token ids: the row of the table `INPUT_KINDS` whose inputs are whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn

from torch import Tensor

from aopc_monitor.perturbation.regions import Grid
from aopc_monitor.perturbation.token_batch import checked_ids
from aopc_monitor.utilities.checks import check_heatmaps


class Texts:
    """(N, T) whole numbers, the ids of tokens; heatmaps (N, T), and regions words.

    Which tokens are in which word comes with a batch, see `TokenBatch`, or by `regions=`. Of ids
    alone each token is a word.

    Example:
        >>> import torch
        >>> kind, ids = Texts(), torch.tensor([[4, 7, 9], [4, 2, 0]])
        >>> kind.regions(ids, None).num_regions, kind.locations(ids)
        (3, (2, 3))
    """

    name: ClassVar[str] = "texts"
    unit: ClassVar[str] = "tokens"
    shape: ClassVar[str] = "(N, T) token ids"
    num_dimensions: ClassVar[int] = 2
    is_dense: ClassVar[bool] = False
    has_channels: ClassVar[bool] = False
    default_replacement: ClassVar[str] = "zero"

    def fits(self, inputs: Tensor) -> bool:
        """Two dimensions of whole numbers."""
        return inputs.ndim == 2 and not inputs.is_floating_point()

    def checked(self, inputs: Any) -> Tensor:
        """The ids as a plain tensor, as `checked_ids` tells."""
        return checked_ids(inputs)

    def locations(self, inputs: Tensor) -> tuple[int, ...]:
        """(N, T)."""
        return tuple(inputs.shape)

    def beside(self, locations: Tensor) -> Tensor:
        """(N, T)."""
        return locations

    def check_heatmaps(self, heatmaps: Any, inputs: Tensor) -> None:
        """Raise unless heatmaps are (N, T), finite and beside the ids."""
        check_heatmaps(heatmaps, inputs, self.locations(inputs))

    def suggested_region_size(self, inputs: Tensor) -> None:
        """There is nothing to choose."""
        return

    def regions(self, inputs: Tensor, region_size: int | Sequence[int] | None) -> Grid:
        """Each token."""
        if region_size not in (None, 1, (1,), [1]):
            raise ValueError(
                f"region_size={region_size!r}: each token is a region where no words are given, so "
                "leave region_size out; words are word_ids in the batch, or regions="
            )
        return Grid(self.locations(inputs)[1:], 1)

    def extent_text(self, inputs: Tensor) -> str:
        """How many tokens a text has, padding included."""
        return f"{inputs.shape[1]} tokens"

    def over_channels(self, inputs: Tensor) -> NoReturn:
        """Ids have no channels, and no range."""
        raise TypeError("token ids have no data range: take a replacement that is for texts")

    def channel_means(self, inputs: Tensor) -> NoReturn:
        """Ids have no mean."""
        raise TypeError("token ids have no mean: take a replacement that is for texts")
