"""Whether the dimensions of inputs stand in the order in which they are taken."""

from __future__ import annotations

from torch import Tensor

# As many channels as these have colours, where they are the last dimension or after the frames.
_COLOURS = (1, 3, 4)
_TURNED_BACK = "and a network that turns them back (in AOPCMonitor by images_fn= and model_fn=)"


def axis_doubt(inputs: Tensor) -> str | None:
    """What to tell of inputs that are taken in an order of dimensions which is likely not theirs.

    Nothing tells time from channels but their numbers: series of fewer steps than channels are
    doubted, images of the width of a colour, and videos of that depth.

    Args:
        inputs: `(N, C, *space)`, (N, F) or (N, T).

    Returns:
        None where there is no doubt.

    Example:
        >>> import torch
        >>> axis_doubt(torch.rand(8, 2, 64))
        >>> axis_doubt(torch.rand(8, 64, 2))[:60]
        'images of shape (8, 64, 2) are taken for series (N, C, L) of'
    """
    channels, *space = inputs.shape[1:]
    taken = f"images of shape {tuple(inputs.shape)} are taken for"
    if inputs.ndim == 3 and channels >= space[0]:
        return (
            f"{taken} series (N, C, L) of {space[0]} time steps with {channels} channels each: if "
            "they are (N, L, C), give them as (N, C, L), or grey images (N, H, W) as (N, 1, H, W), "
            f"{_TURNED_BACK}"
        )
    if inputs.ndim == 4 and space[1] in _COLOURS and min(channels, space[0]) > space[1]:
        return (
            f"{taken} images (N, C, H, W) of {space[0]} x {space[1]} pixels with {channels} "
            f"channels: if they are (N, H, W, C), give them as (N, C, H, W), {_TURNED_BACK}"
        )
    if inputs.ndim == 5 and space[0] in _COLOURS and min(channels, *space[1:]) > space[0]:
        return (
            f"{taken} volumes (N, C, D, H, W) of {channels} channels and a depth of {space[0]}: if "
            f"they are videos (N, T, C, H, W), give them as (N, C, T, H, W), {_TURNED_BACK}"
        )
    return None
