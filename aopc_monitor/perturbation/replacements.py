"""What a region becomes: the function g of eq. 11, one small callable each.

The paper replaces all pixels of a region by values drawn from a uniform distribution
(section III-A).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from aopc_monitor.perturbation.input_kinds import INPUT_KINDS, InputKind, kind_of
from aopc_monitor.perturbation.linear import Linear
from aopc_monitor.perturbation.noisy_linear import NoisyLinear
from aopc_monitor.perturbation.token_replacements import LeftOut, MaskToken, ZeroVector
from aopc_monitor.utilities.configured import plain_value
from aopc_monitor.utilities.error_text import unknown_name
from aopc_monitor.utilities.randomness import uniform_numbers


@runtime_checkable
class Replacement(Protocol):
    """What perturbed pixels become; an `Imputation` too if that depends on which these are.

    One may also have `needs_data_range`, False where `low` and `high` are not looked at, and
    `suits(kind)`, whether it is made for inputs of a kind. Without it, it is for all kinds that
    hold floating-point numbers.
    """

    @property
    def is_random(self) -> bool:
        """Whether each call draws anew; if not, it is called once per image."""

    @property
    def fresh_each_step(self) -> bool:
        """Whether every evaluated (image, step, repeat) gets a draw of its own.

        If not, all steps of an (image, repeat) share one.
        """

    def __call__(
        self, images: Tensor, low: Tensor, high: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Full-size replacement images.

        Args:
            images: (M, C, H, W) clean images, or inputs of another kind.
            low: (C, 1, 1) lower end of the data range, on the images' device.
            high: (C, 1, 1) upper end.
            generator: where a random replacement takes its numbers from. For another order of the
                same images it may be called again, with the generator in the same state.

        Returns:
            (M, C, H, W), of which the perturbed regions are used.
        """


@dataclass(frozen=True)
class Uniform:
    """Uniform noise per pixel and channel over the data range: the paper's choice, section III-A.

    Attributes:
        fresh_each_step: noise of its own for every evaluated step. Each x^(k) keeps the
            distribution that eq. 11 gives it, and the variance of the area falls about fourfold.
            False is the literal recursion of eq. 11, in which a region once replaced stays as it
            is.

    Example:
        >>> noise = Uniform()(torch.zeros(1, 1, 2, 2), torch.tensor(-1.0), torch.tensor(1.0),
        ...                   torch.Generator().manual_seed(0))
        >>> bool((noise.abs() <= 1).all())
        True
    """

    is_random: ClassVar[bool] = True
    fresh_each_step: bool = True

    def __call__(
        self, images: Tensor, low: Tensor, high: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draw (M, C, H, W); always in float32, so that every precision sees the same noise."""
        draws = uniform_numbers(images.shape, generator).to(images.device)
        # In place: new memory would cost as much again.
        return draws.mul_(high - low).add_(low).to(images.dtype)


@dataclass(frozen=True)
class Blur:
    """A Gaussian-blurred copy of an image or volume: keeps colour and coarse shape, not detail.

    Attributes:
        sigma: standard deviation of the Gaussian in pixels; an eighth of the shortest side if not
            given.
    """

    is_random: ClassVar[bool] = False
    fresh_each_step: ClassVar[bool] = False
    needs_data_range: ClassVar[bool] = False
    sigma: float | None = None

    def __post_init__(self) -> None:
        if self.sigma is not None and not self.sigma > 0:
            raise ValueError(f"sigma={self.sigma} must be a positive number of pixels")

    @staticmethod
    def suits(kind: InputKind) -> bool:
        """Images and volumes."""
        return kind.name in ("images", "volumes")

    def __call__(
        self, images: Tensor, low: Tensor, high: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Blur `(M, C, *space)` separably; beyond the border the edge pixel goes on."""
        space = images.ndim - 2
        sigma = self.sigma or min(images.shape[2:]) / 8
        radius = max(1, math.ceil(3 * sigma))
        positions = torch.arange(-radius, radius + 1, device=images.device, dtype=torch.float32)
        kernel = torch.softmax(-(positions**2) / (2 * sigma**2), dim=0)
        planes = images.flatten(0, 1).unsqueeze(1)
        work = F.pad(
            planes.to(torch.promote_types(images.dtype, torch.float32)),
            [radius] * 2 * space,
            mode="replicate",
        )
        convolve = {2: F.conv2d, 3: F.conv3d}[space]
        for dimension in reversed(range(space)):
            along = [-1 if place == dimension else 1 for place in range(space)]
            work = convolve(work, kernel.to(work.dtype).view(1, 1, *along))
        return work.view_as(images).to(images.dtype)


@dataclass(frozen=True)
class Mean:
    """The mean of the input itself, channel by channel: the mean colour of an image."""

    is_random: ClassVar[bool] = False
    fresh_each_step: ClassVar[bool] = False
    needs_data_range: ClassVar[bool] = False

    @staticmethod
    def suits(kind: InputKind) -> bool:
        """Kinds of which a channel has several locations: a feature of a table has one."""
        return kind.is_dense and kind.has_channels

    def __call__(
        self, images: Tensor, low: Tensor, high: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Spread each input's channel means over `(M, C, *space)`."""
        return kind_of(images).channel_means(images)


@dataclass(frozen=True)
class Constant:
    """One value for all pixels, or one per channel.

    Attributes:
        value: in the network's input space, a number or one per channel; the middle of the data
            range if not given.
    """

    is_random: ClassVar[bool] = False
    fresh_each_step: ClassVar[bool] = False
    value: float | Sequence[float] | None = None

    def __post_init__(self) -> None:
        value = plain_value(self.value)
        if isinstance(value, (tuple, list)):
            value = tuple(torch.tensor(value, dtype=torch.float64).flatten().tolist())
        object.__setattr__(self, "value", value)

    @property
    def needs_data_range(self) -> bool:
        """Whether the value is taken from its middle."""
        return self.value is None

    def __call__(
        self, images: Tensor, low: Tensor, high: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Fill (M, C, H, W)."""
        if isinstance(self.value, tuple):
            return self._per_channel(images, self.value)
        if self.value is not None:
            return torch.full_like(images, cast("float", self.value))
        return ((low + high) / 2).to(images.dtype).expand_as(images)

    def _per_channel(self, images: Tensor, value: tuple[float, ...]) -> Tensor:
        if len(value) not in (1, images.shape[1]):
            raise ValueError(
                f"replacement={self!r} has {len(value)} values for images of {images.shape[1]} "
                "channels: give one number, or one per channel"
            )
        shape = (1, -1, *[1] * (images.ndim - 2))
        return (
            torch.tensor(value, dtype=images.dtype, device=images.device)
            .view(shape)
            .expand_as(images)
        )


REPLACEMENTS: dict[str, type[Replacement]] = {
    "uniform": Uniform,
    "blur": Blur,
    "mean": Mean,
    "constant": Constant,
    "noisy_linear": NoisyLinear,
    "linear": Linear,
    "zero": ZeroVector,
    "left_out": LeftOut,
}
# Replacements that need a setting, and so have no name.
UNNAMED: tuple[type[Replacement], ...] = (MaskToken,)


# The door of this folder shows the rows of the table. A type checker cannot follow a computed list.
if not TYPE_CHECKING:
    __all__ = [replacement.__name__ for replacement in (*REPLACEMENTS.values(), *UNNAMED)]


def get_replacement(replacement: str | Replacement) -> Replacement:
    """The replacement of that name, or the object itself.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.
        TypeError: for an object that is no `Replacement`.

    Example:
        >>> get_replacement("uniform")
        Uniform(fresh_each_step=True)
    """
    if isinstance(replacement, str):
        if replacement == "mask":
            raise ValueError('replacement="mask" does not tell which token: give MaskToken(id)')
        if replacement not in REPLACEMENTS:
            raise ValueError(unknown_name("replacement", replacement, REPLACEMENTS))
        return REPLACEMENTS[replacement]()
    if not isinstance(replacement, Replacement):
        raise TypeError(
            f"replacement={replacement!r} is neither a name nor a callable with is_random and "
            "fresh_each_step: see aopc_monitor.perturbation.Replacement"
        )
    return replacement


def needs_data_range(replacement: Replacement) -> bool:
    """Whether the data range is looked at; so if a replacement does not tell."""
    return bool(getattr(replacement, "needs_data_range", True))


def suits(replacement: Replacement, kind: InputKind) -> bool:
    """Whether a replacement is made for inputs of a kind.

    Example:
        >>> suits(Blur(), kind_of(torch.zeros(1, 12, 1000)))
        False
    """
    told = getattr(replacement, "suits", None)
    return kind.is_dense if told is None else bool(told(kind))


def check_suits(replacement: Replacement, kind: InputKind) -> None:
    """Raise ValueError unless a replacement is made for inputs of a kind."""
    if suits(replacement, kind):
        return
    made_for = [known.name for known in INPUT_KINDS if suits(replacement, known)]
    suitable = [name for name, one in REPLACEMENTS.items() if suits(one(), kind)]
    *others, last = made_for or ["no kind of input"]
    told = f"{', '.join(others)} and {last}" if others else last
    raise ValueError(
        f"replacement={replacement!r} is for {told}; these are {kind.name}: choose one of "
        f"{', '.join(suitable)}"
    )
