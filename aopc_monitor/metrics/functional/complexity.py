"""How complex heatmaps are: bytes of the compressed picture, and entropy of its grey levels.

Samek et al. 2017, section IV-B and Fig. 5: a heatmap that shows what matters and no more is better
compressible, and of lower entropy, than one full of noise. It says nothing of the network.
"""

from __future__ import annotations

import io
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from aopc_monitor.utilities.checks import NotFiniteError
from aopc_monitor.utilities.statistics import accumulator_dtype

Format = Literal["png", "jpeg"]
Measure = Literal["png", "jpeg", "entropy"]
LEVELS = 256


def grey_levels(heatmaps: Tensor, *, signed: bool = True) -> Tensor:
    """Heatmaps as 8-bit grey pictures, each one scaled linearly by its own largest magnitude.

    The paper does not say how its pictures were scaled. Here zero has a fixed grey, so that the
    sign can be seen and heatmaps with and without negative values have steps of the same size.

    Args:
        heatmaps: (N, H, W), or those of another kind of input, `(N, *space)`; finite.
        signed: zero becomes the middle grey 128 and the largest magnitude 1 or 255. If not, zero
            becomes black and the largest value 255: twice as fine, for heatmaps that are never
            negative, and not to be compared with the former.

    Returns:
        `(N, *space)` uint8. A heatmap of zeros has the grey of zero.

    Raises:
        TypeError: unless heatmaps is a tensor of real numbers.
        ValueError: for another shape, NaN or infinite values, or negative ones that are not signed.

    Example:
        >>> grey_levels(torch.tensor([[[-1.0, 0.0, 2.0]]]))
        tensor([[[ 64, 128, 255]]], dtype=torch.uint8)
        >>> grey_levels(torch.tensor([[[0.0, 1.0, 2.0]]]), signed=False)
        tensor([[[  0, 128, 255]]], dtype=torch.uint8)
    """
    _check_heatmaps(heatmaps)
    if not signed and (heatmaps < 0).any():
        raise ValueError(
            "signed=False, but heatmaps holds negative values: use signed=True, or give heatmaps "
            "without, such as heatmaps.clamp(min=0)"
        )
    values = heatmaps.detach().to(accumulator_dtype(heatmaps.device))
    space = tuple(range(1, values.ndim))
    largest = values.abs().amax(dim=space, keepdim=True)
    relative = values / torch.where(largest > 0, largest, 1)
    levels = 128 + 127 * relative if signed else 255 * relative
    return levels.round().to(torch.uint8)


def file_size(
    heatmaps: Tensor,
    format: Format = "png",  # noqa: A002 - what picture libraries call it
    *,
    quality: int = 75,
    signed: bool = True,
) -> Tensor:
    """Size of each heatmap's compressed grey picture (Samek et al. 2017, Fig. 5, top).

    Sizes grow with the number of pixels and include the header, some 70 bytes of a PNG and 330 of
    a JPEG. They compare between heatmaps of one size, encoded by one version of the library.
    The picture of a series, or of the features of a table, is a single row; that of a volume has
    its slices one below the other.

    Args:
        heatmaps: (N, H, W), one relevance per pixel, on any device; or (N, L), or (N, D, H, W).
        format: "png" (lossless) or "jpeg".
        quality: of the JPEG, from 1 to 100. The paper names none; 75 is what most encoders take.
        signed: see `grey_levels`.

    Returns:
        (N,) bytes, on the heatmaps' device.

    Raises:
        ModuleNotFoundError: if Pillow is not installed.
        TypeError: unless heatmaps is a tensor of real numbers.
        ValueError: for another shape, NaN, an unknown format or an impossible quality.

    Example:
        >>> flat, noise = torch.zeros(1, 32, 32), torch.rand(1, 32, 32)
        >>> bool(file_size(flat) < file_size(noise))
        True
    """
    check_encoding(format, quality)
    levels = grey_levels(heatmaps, signed=signed)
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("file_size needs Pillow: pip install pillow") from error
    settings = {"quality": quality} if format == "jpeg" else {}
    sizes = []
    for picture in levels.reshape(len(levels), -1, levels.shape[-1]).cpu().numpy():
        file = io.BytesIO()
        Image.fromarray(picture).save(file, format=format, **settings)
        sizes.append(file.tell())
    device = heatmaps.device
    return torch.tensor(sizes, dtype=accumulator_dtype(device), device=device)


def shannon_entropy(heatmaps: Tensor, *, signed: bool = True) -> Tensor:
    """Entropy of each heatmap's grey levels (Samek et al. 2017, Fig. 5, bottom).

    The entropy of the histogram of the 8-bit picture, as MATLAB's `entropy` that the paper used;
    where in the picture a level occurs plays no role.

    Args:
        heatmaps: (N, H, W), one relevance per pixel, on any device; or `(N, *space)`.
        signed: see `grey_levels`.

    Returns:
        (N,) bits per pixel, from 0 (constant) to 8.

    Raises:
        TypeError: unless heatmaps is a tensor of real numbers.
        ValueError: for another shape, NaN or infinite values.

    Example:
        >>> shannon_entropy(torch.tensor([[[0.0, 0.0], [1.0, -1.0]], [[3.0, 3.0], [3.0, 3.0]]]))
        tensor([1.5000, 0.0000], dtype=torch.float64)
    """
    levels = grey_levels(heatmaps, signed=signed).flatten(1).long()
    images = torch.arange(len(levels), device=levels.device)[:, None]
    counts = (levels + LEVELS * images).flatten().bincount(minlength=LEVELS * len(levels))
    share = counts.view(-1, LEVELS).to(accumulator_dtype(levels.device)) / levels.shape[1]
    return torch.special.entr(share).sum(dim=1) / torch.log(share.new_tensor(2.0))


def _check_heatmaps(heatmaps: Any) -> None:
    if not isinstance(heatmaps, Tensor) or heatmaps.is_complex():
        came_in = heatmaps.dtype if isinstance(heatmaps, Tensor) else type(heatmaps).__name__
        raise TypeError(f"heatmaps is {came_in}; wanted is a tensor (N, H, W) of real numbers")
    # What has four dimensions is of volumes, unless it looks like images with their channels.
    has_channels = heatmaps.ndim == 4 and heatmaps.shape[1] in (1, 3)
    if not 2 <= heatmaps.ndim <= 4 or has_channels or heatmaps.numel() == 0:
        raise ValueError(
            f"heatmaps has shape {tuple(heatmaps.shape)}; wanted is (N, H, W), (N, L) or "
            "(N, D, H, W) with at least one heatmap: pool the channels, or add the batch dimension "
            "with heatmaps[None]; volumes of one or three slices go as (N, D * H, W)"
        )
    finite = torch.isfinite(heatmaps).flatten(1).all(dim=1)
    if not finite.all():
        raise NotFiniteError(
            f"heatmaps holds NaN or infinite values in {int((~finite).sum())} of {len(heatmaps)}: "
            "they have no grey; leave these out, or see to the network that made them"
        )


def check_encoding(name: str, quality: int) -> None:
    """Raise ValueError unless there is such a format, and such a quality of a JPEG."""
    if name not in get_args(Format):
        known = ", ".join(get_args(Format))
        raise ValueError(f"format={name!r} is unknown: choose one of {known}")
    if not isinstance(quality, int) or not 1 <= quality <= 100:
        raise ValueError(f"quality={quality!r} must be a whole number from 1 to 100")
