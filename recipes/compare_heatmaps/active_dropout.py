"""Dropout that goes on dropping while the network is only looked at.

Samek et al. 2017, section IV-B, repeated their comparison of heatmaps with both networks "in the
training phase, in which the dropout layers were active", and found qualitatively the same.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

_OF_CHANNELS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class ActiveDropout(nn.Module):
    """Drops in eval mode too, with random numbers of its own.

    Args:
        probability: share of the values that become zero; the others grow by 1 / (1 - share).
        whole_channels: whether a channel of an image is dropped as a whole.
        generator: on the CPU, where the numbers come from.
    """

    def __init__(
        self, probability: float, whole_channels: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.probability, self.whole_channels = probability, whole_channels
        self.generator = generator

    def forward(self, values: Tensor) -> Tensor:
        """Values of the same shape, some of them zero."""
        shape = list(values.shape)
        if self.whole_channels:
            shape[2:] = [1] * (len(shape) - 2)
        kept = torch.rand(shape, generator=self.generator) >= self.probability
        scale = kept.to(values) / (1 - self.probability)
        return values * scale

    def extra_repr(self) -> str:
        """What printing the module shows."""
        return f"probability={self.probability}, whole_channels={self.whole_channels}"


def with_active_dropout(network: nn.Module) -> nn.Module:
    """A copy of a network whose dropout is active in eval mode; all else, BatchNorm too, is not.

    Only dropout modules are seen: not dropout that a forward computes by itself, such as that of
    attention.

    Args:
        network: with at least one `Dropout`, `Dropout1d`, `Dropout2d` or `Dropout3d` of a
            probability between 0 and 1.

    Raises:
        ValueError: if there is none.

    Example:
        >>> network = with_active_dropout(nn.Sequential(nn.Dropout(0.5))).eval()
        >>> sorted(network(torch.ones(1000)).unique().tolist())
        [0.0, 2.0]
    """
    network = copy.deepcopy(network)
    generator = torch.Generator()
    found = 0
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, (nn.Dropout, *_OF_CHANNELS)) and 0 < child.p < 1:
                active = ActiveDropout(child.p, isinstance(child, _OF_CHANNELS), generator)
                setattr(module, name, active)
                found += 1
    if not found:
        raise ValueError(
            f"network {type(network).__name__} has no dropout module that could be active: choose "
            "a network with dropout, or leave it inactive"
        )
    return network


def restart(network: nn.Module, seed: int) -> None:
    """Start the random numbers of all active dropout of a network anew."""
    for module in network.modules():
        if isinstance(module, ActiveDropout):
            module.generator.manual_seed(seed)
