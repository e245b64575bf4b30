"""The stabiliser epsilon of LRP, which keeps quotients finite."""

from __future__ import annotations

import torch
from torch import Tensor


def damp(signal: Tensor, outputs: Tensor, epsilon: float | Tensor) -> Tensor:
    """A signal times its share that is left (see `damping`).

    Example:
        >>> import torch
        >>> damp(torch.tensor([4.0, 4.0]), torch.tensor([-1.0, 3.0]), epsilon=1.0)
        tensor([2., 3.])
    """
    share = damping(outputs, epsilon)
    # Of large outputs, each tensor that need not be made counts.
    in_place = share.dtype == signal.dtype and share.shape == signal.shape
    return share.mul_(signal) if in_place else signal * share


def damp_rectified(signal: Tensor, outputs: Tensor, epsilon: float) -> Tensor:
    """A signal times a / (a + epsilon), of outputs a that are not negative; 0 at a = 0.

    As `damp`, which makes two tensors more of the same size.

    Example:
        >>> import torch
        >>> damp_rectified(torch.tensor([4.0, 4.0]), torch.tensor([0.0, 3.0]), epsilon=1.0)
        tensor([0., 3.])
    """
    share = outputs + epsilon
    torch.div(outputs, share, out=share)
    in_place = share.dtype == signal.dtype and share.shape == signal.shape
    return share.mul_(signal) if in_place else signal * share


def damping(outputs: Tensor, epsilon: float | Tensor) -> Tensor:
    """The share z / (z + epsilon sign(z)) of a signal that is left (eq. 7); 0 at z = 0.

    Example:
        >>> import torch
        >>> damping(torch.tensor([-1.0, 0.0, 3.0]), epsilon=1.0)
        tensor([0.5000, 0.0000, 0.7500])
    """
    magnitude = outputs.abs()
    share = magnitude.div_(magnitude + epsilon)
    # The share is 0 / 0 without a stabiliser, or where it is in proportion to outputs all zero.
    return share if isinstance(epsilon, float) and epsilon > 0 else share.nan_to_num_(nan=0.0)


def relative_to_scale(epsilon: float, outputs: Tensor) -> Tensor:
    """Stabiliser in proportion to the root mean square of each sample's outputs.

    Example:
        >>> import torch
        >>> relative_to_scale(0.1, torch.tensor([[3.0, -3.0], [40.0, 40.0]]))
        tensor([[0.3000],
                [4.0000]])
    """
    over = tuple(range(1, outputs.ndim))
    largest = outputs.abs().amax(dim=over, keepdim=True)
    # Squares of very small or large numbers would leave the range of float32.
    shares = (outputs / largest).nan_to_num(nan=0.0)
    return epsilon * largest * shares.square().mean(dim=over, keepdim=True).sqrt()
