"""What image patches a picture holds, and in which quarter of it: features that nobody trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

# Side that larger pictures are averaged down to: the cost then does not grow with them.
LARGEST_SIDE = 32
# Variance of a patch, in units of that of all pixels, below which its contrast is not raised.
LEAST_VARIANCE = 0.1
# What whitening adds to the variance of each direction, so that noise is not raised.
WHITENING = 0.1
# How much a patch has to resemble another to count.
THRESHOLD = 0.5
QUARTERS = 2
PATCHES_FOR_WHITENING = 100_000
# So few pictures have responses that stay in the cache: more take half as long again.
AT_ONCE, AT_ONCE_ELSEWHERE = 16, 512


@dataclass(frozen=True)
class PatchFeatures:
    """How much a picture's patches resemble each of a set of patches, and its opposite.

    Patches are taken at random, set to one contrast and whitened, and the responses of both signs
    are averaged over each quarter of a picture (Coates, Ng and Lee 2011, "An analysis of
    single-layer networks in unsupervised feature learning").

    Attributes:
        mean: (C,) of the pixels of each channel.
        std: (C,) of the same.
        filters: (P, C, m, m), whitening included.
        offsets: (P,) what whitening adds to a response.
    """

    mean: Tensor
    std: Tensor
    filters: Tensor
    offsets: Tensor

    @classmethod
    def of(cls, images: Tensor, num_patches: int, patch_size: int, seed: int) -> PatchFeatures:
        """Take the patches from images (N, C, H, W), float32, no larger than `LARGEST_SIDE`."""
        std, mean = torch.std_mean(images, dim=(0, 2, 3))
        # A channel of one value, such as an alpha channel, has the rounding of its mean for a std.
        varies = images.amax(dim=(0, 2, 3)) > images.amin(dim=(0, 2, 3))
        std = torch.where(varies, std.clamp_min(torch.finfo(std.dtype).tiny), 1)
        generator = torch.Generator().manual_seed(seed)
        patches = _drawn(images, max(PATCHES_FOR_WHITENING, num_patches), patch_size, generator)
        patches = ((patches - mean[:, None, None]) / std[:, None, None]).flatten(1)
        patches = patches - patches.mean(dim=1, keepdim=True)
        patches /= (patches.var(dim=1, keepdim=True) + LEAST_VARIANCE).sqrt()
        centre = patches.mean(dim=0)
        variances, directions = torch.linalg.eigh(torch.cov(patches.T).double())
        whitening = ((directions * (variances + WHITENING).rsqrt()) @ directions.T).float()
        chosen = torch.randperm(len(patches), generator=generator)[:num_patches]
        units = F.normalize((patches[chosen] - centre) @ whitening)
        filters = units @ whitening
        # A patch's mean is taken out by the filters, so that they slide over the picture as it is.
        offsets, filters = -(filters @ centre), filters - filters.mean(dim=1, keepdim=True)
        return cls(mean, std, filters.view(-1, len(mean), patch_size, patch_size), offsets)

    def __call__(self, images: Tensor) -> Tensor:
        """Features (N, 8 P) of images (N, C, H, W), float32."""
        at_once = AT_ONCE if images.device.type == "cpu" else AT_ONCE_ELSEWHERE
        return torch.cat([self._of_few(few) for few in images.split(at_once)])

    def _of_few(self, images: Tensor) -> Tensor:
        size = self.filters.shape[-1]
        x = (images - self.mean[:, None, None]) / self.std[:, None, None]
        x = x.contiguous(memory_format=torch.channels_last)
        responses = F.conv2d(x, self.filters.contiguous(memory_format=torch.channels_last))
        means = F.avg_pool2d(x.mean(dim=1, keepdim=True), size, stride=1)
        squares = F.avg_pool2d(x.square().mean(dim=1, keepdim=True), size, stride=1)
        count = self.filters[0].numel()
        variances = (squares - means.square()).clamp_min(0) * (count / max(count - 1, 1))
        responses *= (variances + LEAST_VARIANCE).rsqrt()
        responses += self.offsets[:, None, None]
        alike = F.adaptive_avg_pool2d((responses - THRESHOLD).relu_(), QUARTERS)
        opposite = F.adaptive_avg_pool2d((-responses - THRESHOLD).relu_(), QUARTERS)
        return torch.cat([alike, opposite], dim=1).flatten(1)


def _drawn(images: Tensor, count: int, size: int, generator: torch.Generator) -> Tensor:
    """Patches (count, C, size, size) from anywhere in any of the images."""
    number, channels, height, width = images.shape

    def places(end: int) -> Tensor:
        return torch.randint(end, (count,), generator=generator)

    within = torch.arange(size)
    image = places(number)[:, None, None, None]
    rows = (places(height - size + 1)[:, None] + within)[:, None, :, None]
    columns = (places(width - size + 1)[:, None] + within)[:, None, None, :]
    return images[image, torch.arange(channels)[None, :, None, None], rows, columns]


def averaged_down(images: Tensor) -> Tensor:
    """Images (N, C, H, W) no larger than `LARGEST_SIDE`, in their own proportions.

    Example:
        >>> averaged_down(torch.rand(2, 3, 224, 112)).shape
        torch.Size([2, 3, 32, 16])
    """
    longer = max(images.shape[2:])
    if longer <= LARGEST_SIDE:
        return images
    height, width = (max(1, round(side * LARGEST_SIDE / longer)) for side in images.shape[2:])
    return F.adaptive_avg_pool2d(images, (height, width))


def ridge_classifier(
    features: Tensor, labels: Tensor, num_classes: int, ridge: float
) -> tuple[Tensor, Tensor]:
    """Least squares from features of one variance to the classes, in closed form.

    Args:
        features: (N, D).
        labels: (N,) class indices.
        num_classes: K.
        ridge: what is added to the variance of each feature, which is 1.

    Returns:
        (D, K) weights and (K,) offsets, of the features as they came.
    """
    std, mean = torch.std_mean(features, dim=0)
    std = torch.where(std > 0, std, torch.ones_like(std))
    classes = F.one_hot(labels, num_classes).float()
    shares = classes.mean(dim=0)
    size = features.shape[1]
    squares = torch.zeros(size, size, dtype=torch.float64)
    products = torch.zeros(size, num_classes, dtype=torch.float64)
    for few, of_few in _parts(features, classes):
        x = (few - mean) / std
        squares += x.T @ x
        products += x.T @ (of_few - shares)
    squares.diagonal().add_(ridge * len(features))
    weights = torch.cholesky_solve(products, torch.linalg.cholesky(squares)) / std.double()[:, None]
    return weights.float(), (shares.double() - mean.double() @ weights).float()


def _parts(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(tensor.split(1024) for tensor in tensors), strict=True)
