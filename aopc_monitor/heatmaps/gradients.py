"""Heatmaps of the gradient: at the image, along a path to a baseline, or around the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from aopc_monitor.heatmaps.base import BackwardHeatmap, NetworkHeatmap, NormHeatmap
from aopc_monitor.heatmaps.baseline import Baseline, baseline_images
from aopc_monitor.heatmaps.engine.backward_pass import BackwardPass, backward_pass
from aopc_monitor.heatmaps.engine.explained_network import Network
from aopc_monitor.heatmaps.pooling import check_norm, pooled
from aopc_monitor.utilities.checks import check_positive
from aopc_monitor.utilities.randomness import generator_for


@dataclass(frozen=True)
class Sensitivity(NormHeatmap):
    """Sensitivity: the norm of the gradient over a pixel's channels (Samek et al. 2017, eq. 3).

    Attributes:
        norm: "l2" or "linf".

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
        >>> Sensitivity(norm="linf")(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """


@dataclass(frozen=True)
class GradientTimesInput(BackwardHeatmap):
    """Gradient times input, summed over a pixel's channels: signed (Shrikumar et al. 2016).

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
        >>> GradientTimesInput()(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """

    def pool(self, images: Tensor, result: BackwardPass) -> Tensor:
        """Sum of products over channels."""
        return pooled(images * result.signal, "sum")


@dataclass(frozen=True)
class IntegratedGradients(NetworkHeatmap):
    """Integrated gradients, summed over channels: signed (Sundararajan et al. 2017, eq. 1).

    (x - x') times the mean gradient on the straight path from the baseline x' to the image x, by
    Gauss-Legendre quadrature. Completeness (proposition 1): as the steps grow, a heatmap sums to
    f(x) - f(x'). Costs `steps` forward and backward passes per image.

    Attributes:
        steps: points on the path.
        baseline: x', as the network sees it: a number, C numbers, or a
            `(C, *space)` tensor.

    Raises:
        ValueError: for less than one step, or a baseline that does not fit the images.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
        >>> x, black = torch.rand(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
        >>> heatmap = IntegratedGradients(steps=8)(model, x, torch.tensor([7]))
        >>> difference = (model(x) - model(black))[0, 7]
        >>> torch.allclose(heatmap.sum(), difference, atol=1e-5)
        True
    """

    steps: int = 32
    baseline: Baseline = 0.0

    def __post_init__(self) -> None:
        check_positive("steps", self.steps)

    def relevance(self, network: Network, images: Tensor, target: Tensor) -> Tensor:
        """The difference to the baseline times the mean gradient on the path."""
        start = baseline_images(self.baseline, images)
        difference = images - start
        nodes, weights = np.polynomial.legendre.leggauss(self.steps)
        mean = torch.zeros_like(images)
        # The quadrature is for (-1, 1), whose length is 2; the path is (0, 1).
        for position, weight in zip((1 + nodes) / 2, weights / 2, strict=True):
            point = start + float(position) * difference
            mean += float(weight) * backward_pass(network, point, target).signal
        return pooled(difference * mean, "sum")


@dataclass(frozen=True)
class SmoothGrad(NetworkHeatmap):
    """SmoothGrad: the mean gradient at noisy copies of an image (Smilkov et al. 2017).

    Pooled by the norm over channels. The noise is Gaussian and depends on nothing but the image and
    the seed, so that an image has the same heatmap in every batch. Costs `samples` forward and
    backward passes per image.

    Attributes:
        samples: noisy copies per image.
        noise: standard deviation of the noise, as a share of each image's largest minus smallest
            value; the paper suggests 0.1 to 0.2.
        norm: how channels are pooled: "l2" or "linf".
        seed: another seed, other noise.

    Raises:
        ValueError: for less than one sample, noise that is not positive, or an unknown norm.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
        >>> SmoothGrad(samples=4)(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """

    samples: int = 16
    noise: float = 0.1
    norm: Literal["l2", "linf"] = "l2"
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive("samples", self.samples)
        if not 0 < self.noise < float("inf"):
            raise ValueError(
                f"noise={self.noise} must be positive: a share of each image's value range, such "
                "as 0.1"
            )
        check_norm(self.norm)

    def relevance(self, network: Network, images: Tensor, target: Tensor) -> Tensor:
        """The norm of the mean gradient."""
        over = tuple(range(1, images.ndim))
        low, high = images.amin(dim=over, keepdim=True), images.amax(dim=over, keepdim=True)
        generators = [generator_for(one[None], self.seed, "smoothgrad") for one in images]
        total = torch.zeros_like(images)
        for _ in range(self.samples):
            noisy = images + self.noise * (high - low) * _normal(images, generators)
            total += backward_pass(network, noisy, target).signal
        return pooled(total / self.samples, self.norm)


def _normal(images: Tensor, generators: list[torch.Generator]) -> Tensor:
    """One draw per image, of its own generator, as large as the images."""
    # All noise here is drawn in float32.
    draws = [
        torch.randn(images.shape[1:], generator=g, device=g.device, dtype=torch.float32)
        for g in generators
    ]
    return torch.stack(draws).to(images)
