"""Kinds of input: how inputs are checked, cut into regions and replaced, and what suits them.

Section III-A of Samek et al. 2017 speaks of an ordered set of locations of any kind. What is
particular to a kind stands in its row here; nothing in eq. 9 to 12 is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from aopc_monitor.perturbation.dense_kinds import Images, Series, Tables, Volumes
from aopc_monitor.perturbation.region_map import (
    GivenRegions,
    RegionFunction,
    RegionMap,
    RegionRelevance,
)
from aopc_monitor.perturbation.regions import Order, Regions, by_relevance, check_order
from aopc_monitor.perturbation.token_kind import Texts
from aopc_monitor.utilities.checks import plain_tensor
from aopc_monitor.utilities.statistics import accumulator_dtype


class InputKind(Protocol):
    """What a row of the table tells; `*space` are the dimensions of the locations.

    Attributes:
        name: what the inputs are called in messages.
        unit: what their extent is counted in.
        shape: of a batch, as messages tell it.
        num_dimensions: how many dimensions a batch of them has.
        is_dense: whether each location holds floating-point numbers.
        has_channels: whether a location holds several of them, along the second dimension.
        default_replacement: what regions become if nothing else is chosen.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    shape: ClassVar[str]
    num_dimensions: ClassVar[int]
    is_dense: ClassVar[bool]
    has_channels: ClassVar[bool]
    default_replacement: ClassVar[str]

    def fits(self, inputs: Tensor) -> bool:
        """Whether inputs are of this kind, by the number of dimensions and the type."""

    def checked(self, inputs: Any) -> Tensor:
        """The inputs as a plain tensor; TypeError or ValueError tells what to do about others."""

    def locations(self, inputs: Tensor) -> tuple[int, ...]:
        """`(N, *space)`, the shape of heatmaps."""

    def beside(self, locations: Tensor) -> Tensor:
        """Values of locations `(M, *space)`, shaped to be broadcast over inputs."""

    def check_heatmaps(self, heatmaps: Any, inputs: Tensor) -> None:
        """Raise unless there is one finite relevance per location, `(N, *space)`."""

    def suggested_region_size(self, inputs: Tensor) -> int | tuple[int, ...] | None:
        """A region size that suits inputs of this extent; None where there is no choice."""

    def regions(self, inputs: Tensor, region_size: int | Sequence[int] | None) -> Regions:
        """The R regions that all of the inputs are cut into; ValueError if they do not fit."""

    def extent_text(self, inputs: Tensor) -> str:
        """How large an input is, for messages."""

    def over_channels(self, inputs: Tensor) -> Tensor:
        """(C, numbers) all values of each channel."""

    def channel_means(self, inputs: Tensor) -> Tensor:
        """Inputs of which each location holds the mean of its input's channel."""


# The first row is what inputs that are no tensors are told to become.
INPUT_KINDS: tuple[InputKind, ...] = (Images(), Series(), Volumes(), Tables(), Texts())


def kind_of(inputs: Any) -> InputKind:
    """The kind of some inputs, by the number of their dimensions and their type.

    Example:
        >>> kind_of(torch.zeros(1, 3, 8, 8)).name, kind_of(torch.zeros(1, 30)).name
        ('images', 'tables')

    Raises:
        ValueError: for a tensor of a number of dimensions that no kind has.
    """
    if not isinstance(inputs, Tensor):
        return INPUT_KINDS[0]
    alike = [kind for kind in INPUT_KINDS if kind.num_dimensions == inputs.ndim]
    if not alike:
        kinds = [f"{kind.shape} for {kind.name}" for kind in INPUT_KINDS]
        raise ValueError(
            f"images has shape {tuple(inputs.shape)}; wanted is {', '.join(kinds[:-1])} or "
            f"{kinds[-1]}: is the batch dimension missing?"
        )
    return next((kind for kind in alike if kind.fits(inputs)), alike[0])


def checked_inputs(inputs: Any) -> Tensor:
    """The inputs as a plain tensor.

    Raises:
        TypeError, ValueError: unless they are of a kind that is known, not empty and finite.
    """
    if isinstance(inputs, Tensor):
        inputs = plain_tensor(inputs)
    return kind_of(inputs).checked(inputs)


def regions_of(
    inputs: Tensor,
    region_size: int | Sequence[int] | None,
    regions: GivenRegions | RegionFunction | None,
    relevance_is: RegionRelevance = "mean",
) -> Regions:
    """The regions that inputs are cut into.

    Args:
        inputs: what is perturbed.
        region_size: of the regions that the kind of the inputs has.
        regions: those of the user's own instead.
        relevance_is: "mean" or "sum" of the heatmap over a region of the user's own.

    Raises:
        ValueError: for regions that do not fit the inputs.
    """
    kind = kind_of(inputs)
    if regions is None:
        return kind.regions(inputs, region_size)
    if not isinstance(regions, GivenRegions):
        # A copy: the function may write into what it is given.
        regions = GivenRegions(regions(inputs.detach().clone()))
    return RegionMap.of(regions, kind.locations(inputs), inputs.device, relevance_is)


def rank_maps_of(
    inputs: Tensor,
    orders: Sequence[tuple[Tensor, Order]],
    regions: Regions,
    generator: torch.Generator,
) -> list[Tensor]:
    """One rank map per order (eq. 10), all of which break ties alike.

    Args:
        inputs: what is perturbed.
        orders: heatmaps `(N, *space)` and which of their regions go first.
        regions: the regions of the inputs.
        generator: source of the tie breakers.

    Returns:
        `(N, 1, *space)` each, or `(N, *space)` for inputs without channels.

    Raises:
        ValueError: for heatmaps that do not fit the inputs.
    """
    kind, shape = kind_of(inputs), (len(inputs), regions.num_regions)
    dtype = accumulator_dtype(generator.device)
    ties = torch.rand(shape, generator=generator, device=generator.device, dtype=dtype)
    shuffled, maps = ties.to(inputs.device).argsort(dim=1), []
    for heatmaps, order in orders:
        kind.check_heatmaps(heatmaps, inputs)
        check_order(order)
        ranked = shuffled
        if order != "random":
            ranked = by_relevance(regions.relevance(heatmaps), order, shuffled)
        maps.append(kind.beside(regions.rank_map(missing_last(ranked, regions.numbers))))
    return maps


def missing_last(order: Tensor, numbers: Tensor | None) -> Tensor:
    """The order (N, R) with the regions that an input does not have, from its number on, last.

    Example:
        >>> missing_last(torch.tensor([[2, 0, 1]]), torch.tensor([2]))
        tensor([[0, 1, 2]])
    """
    if numbers is None:
        return order
    is_missing = (order >= numbers[:, None]).to(torch.uint8)
    return order.gather(1, is_missing.argsort(dim=1, stable=True))
