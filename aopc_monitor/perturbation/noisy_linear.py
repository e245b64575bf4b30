"""Perturbed pixels that follow from the pixels around them: noisy linear imputation.

A region of noise, or of one colour, shows its own outline, and with it what the heatmap looked
like. Imputed regions hardly do: "Noisy Linear Imputation" of Rong et al. 2022, A Consistent and
Efficient Evaluation Strategy for Attribution Methods (ROAD), ICML 2022, arXiv:2202.00449.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from aopc_monitor.perturbation.input_kinds import InputKind

# Largest error of a pixel that is aimed at, in units of the data range: a thousandth of the noise.
TOLERANCE = 1e-5
# About ten are needed; the bound is for numbers that no tolerance can be reached with.
MAX_ITERATIONS = 100
# Below 1, so that a checkerboard is damped as well where an image is a single row of pixels.
DAMPING = 0.9


@runtime_checkable
class Imputation(Protocol):
    """What a `Replacement` is in addition if perturbed pixels depend on which ones are perturbed.

    Its `__call__` knows no mask and returns what images become of which nothing is left. It draws
    once for all orders that are compared, and `impute` is called for each order with the result.
    """

    def impute(
        self, images: Tensor, perturbed: Tensor, replaced: Tensor, low: Tensor, high: Tensor
    ) -> Tensor:
        """Perturbed images.

        Args:
            images: (M, C, H, W) clean images.
            perturbed: (M, 1, H, W) bool, which pixels are perturbed.
            replaced: (M, C, H, W) what `__call__` returned for these images, random part included.
            low: (C, 1, 1) lower end of the data range, on the images' device.
            high: (C, 1, 1) upper end.

        Returns:
            (M, C, H, W) of the images' type, other pixels unchanged. An image must not depend on
            the others, since those change with the chunk size.
        """


@dataclass(frozen=True)
class NoisyLinear:
    """Weighted means of the neighbours, and a little noise (Rong et al. 2022).

    Each perturbed pixel is the mean of its eight neighbours, perturbed ones included: direct
    neighbours with weight 1/6, diagonal ones with 1/12, at the border of the image relative to the
    weights of those that exist. Where everything is perturbed, the middle of the data range.
    The noise is added to the solution and, as in the paper's code, not cut to the data range.

    Attributes:
        noise: standard deviation of the Gaussian noise, independent per pixel and channel, in units
            of the data range: 0.01 is the paper's on images in [0, 1] before normalisation.
        fresh_each_step: noise of its own for every evaluated step; see `Uniform`.

    Raises:
        ValueError: for a negative or infinite noise.

    Example:
        >>> ramp = torch.arange(5.0).expand(1, 1, 5, 5)
        >>> hole = torch.zeros(1, 1, 5, 5, dtype=torch.bool)
        >>> hole[..., 1:4, 1:4] = True
        >>> low, high = torch.zeros(1, 1, 1), torch.full((1, 1, 1), 4.0)
        >>> replacement = NoisyLinear(noise=0.0)
        >>> replaced = replacement(ramp, low, high, torch.Generator())
        >>> filled = replacement.impute(ramp, hole, replaced, low, high)
        >>> bool((filled - ramp).abs().max() < 1e-3)
        True
    """

    noise: float = 0.01
    fresh_each_step: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.noise < math.inf:
            raise ValueError(
                f"noise={self.noise} must be 0 or a positive number: the standard deviation in "
                "units of the data range"
            )

    @staticmethod
    def suits(kind: InputKind) -> bool:
        """Images: the weights are those of eight neighbours."""
        return kind.name == "images"

    @property
    def is_random(self) -> bool:
        """Whether there is noise."""
        return self.noise > 0

    def __call__(
        self, images: Tensor, low: Tensor, high: Tensor, generator: torch.Generator
    ) -> Tensor:
        """(M, C, H, W), float32 in every precision: the middle of the data range, and the noise."""
        middle = ((low + high) / 2).expand(images.shape)
        if not self.is_random:
            return middle
        draws = torch.randn(
            images.shape, generator=generator, device=generator.device, dtype=torch.float32
        )
        return middle + self.noise * (high - low) * draws.to(images.device)

    def impute(
        self, images: Tensor, perturbed: Tensor, replaced: Tensor, low: Tensor, high: Tensor
    ) -> Tensor:
        """Solve for the perturbed pixels and add the noise; see `Imputation`."""
        noise = replaced - (low + high) / 2
        noisy = linear_imputation(images, perturbed, low, high) + noise
        return torch.where(perturbed, noisy.to(images.dtype), images)


def linear_imputation(
    images: Tensor, perturbed: Tensor, low: Tensor, high: Tensor, tolerance: float = TOLERANCE
) -> Tensor:
    """Images whose perturbed pixels are the weighted means of their neighbours.

    Args:
        images: (M, C, H, W) floating point.
        perturbed: (M, 1, H, W) bool.
        low: (C, 1, 1) lower end of the data range.
        high: (C, 1, 1) upper end.
        tolerance: estimated error at which an image and channel is done, in units of the data
            range, or of the image's own range where that is larger.

    Returns:
        (M, C, H, W), float32 or the images' own type if that is wider. Never beyond the smallest
        and largest unperturbed value of the channel.

    Example:
        >>> stripe = torch.tensor([[[[0.0, 9.0, 9.0, 3.0]]]])
        >>> low, high = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
        >>> linear_imputation(stripe, stripe == 9, low, high).round(decimals=3)
        tensor([[[[0., 1., 2., 3.]]]])
    """
    # Sums run in the order of memory: the same one for every chunk.
    work = images.to(torch.promote_types(images.dtype, torch.float32)).contiguous()
    some_known = ~perturbed.all(dim=-1, keepdim=True).all(dim=-2, keepdim=True)
    middle = ((low + high) / 2).to(work.dtype)
    floor = work.masked_fill(perturbed, math.inf).amin(dim=(-2, -1), keepdim=True)
    ceiling = work.masked_fill(perturbed, -math.inf).amax(dim=(-2, -1), keepdim=True)
    floor, ceiling = (torch.where(some_known, bound, middle) for bound in (floor, ceiling))
    # Centred and in units of the range, float32 has digits to spare.
    centre, scale = (floor + ceiling) / 2, torch.maximum(ceiling - floor, high - low)
    scale = torch.where(scale > 0, scale, 1)  # a channel that is constant
    start = torch.where(perturbed, 0, (work - centre) / scale)
    solved = _solve(start, _levels(perturbed, work.dtype), tolerance)
    # A mean of means never leaves the range of the known pixels: what does is error.
    filled = (solved * scale + centre).clamp(floor, ceiling)
    return torch.where(perturbed, filled, work)


@dataclass(frozen=True)
class _Level:
    """The system of equations at one resolution; its matrix is symmetric and positive definite.

    Attributes:
        unknown: (M, 1, h, w) 1 where a pixel is sought, else 0.
        weights: (1, 1, h, w) sum of the weights of the neighbours that exist: the diagonal.
        jacobi: (M, 1, h, w) what turns a residual into a first correction.
    """

    unknown: Tensor
    weights: Tensor
    jacobi: Tensor

    @classmethod
    def of(cls, unknown: Tensor) -> _Level:
        weights = _neighbours(torch.ones_like(unknown[:1]))
        # An image of a single pixel has no neighbours.
        positive = weights.clamp_min(torch.finfo(weights.dtype).tiny)
        return cls(unknown, weights, DAMPING * unknown / positive)

    def product(self, values: Tensor) -> Tensor:
        """Matrix times values: how far each unknown is from the mean of its neighbours."""
        return self.unknown * (self.weights * values - _neighbours(values))


def _neighbours(values: Tensor) -> Tensor:
    """Weighted sums of the eight neighbours; beyond the border there are none."""
    # Slices and not a convolution, which accelerators round to fewer digits (TF32, autocast), and
    # whose algorithm depends on the size of the chunk.
    padded = F.pad(values, (1, 1, 1, 1))
    across = (padded[..., :-2] + padded[..., 2:]).add_(padded[..., 1:-1], alpha=2)
    block = (across[..., :-2, :] + across[..., 2:, :]).add_(across[..., 1:-1, :], alpha=2)
    return block.sub_(values, alpha=4).div_(12)


def _levels(perturbed: Tensor, dtype: torch.dtype) -> list[_Level]:
    """The system at full resolution, at half of it, and so on.

    A coarse pixel is unknown where all of its four pixels are.
    """
    levels = [_Level.of(perturbed.to(dtype))]
    while max(levels[-1].unknown.shape[-2:]) > 2:
        known = F.max_pool2d(1 - levels[-1].unknown, 2, ceil_mode=True)
        if bool(known.all()):
            break
        levels.append(_Level.of(1 - known))
    return levels


def _solve(values: Tensor, levels: list[_Level], tolerance: float) -> Tensor:
    """Conjugate gradients, preconditioned by a multigrid cycle, for all images at once.

    The cycle is close to the inverse, so its output estimates the error itself, whatever the size
    of the holes. Each image and channel stops on its own, and products are rounded before they are
    added: neither the rest of the chunk nor a place in it changes an image.
    """
    finest = levels[0]
    smallest = torch.finfo(values.dtype).tiny
    residual = -finest.product(values)
    direction = error = _cycle(residual, levels)
    energy = _dot(residual, error)
    for _ in range(MAX_ITERATIONS):
        unsolved = error.abs().amax(dim=(-2, -1), keepdim=True) > tolerance
        if not bool(unsolved.any()):
            break
        product = finest.product(direction)
        length = unsolved * energy / _dot(direction, product).clamp_min(smallest)
        values = values + length * direction
        residual = residual - length * product
        error = _cycle(residual, levels)
        previous, energy = energy, _dot(residual, error)
        direction = error + energy / previous.clamp_min(smallest) * direction
    return values


def _cycle(residual: Tensor, levels: list[_Level]) -> Tensor:
    """One symmetric V-cycle: an approximate solution for a right-hand side."""
    level, *coarser = levels
    error = level.jacobi * residual
    if coarser:
        rest = residual - level.product(error)
        sums = F.avg_pool2d(rest, 2, ceil_mode=True, divisor_override=1)
        coarse = _cycle(coarser[0].unknown * sums, coarser)
        height, width = residual.shape[-2:]
        spread = coarse.repeat_interleave(2, -1).repeat_interleave(2, -2)[..., :height, :width]
        error = error + level.unknown * spread
    return error + level.jacobi * (residual - level.product(error))


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """(M, C, 1, 1) products; summed in two steps, neither of which is shared among threads."""
    return (left * right).sum(dim=-1, keepdim=True).sum(dim=-2, keepdim=True)
