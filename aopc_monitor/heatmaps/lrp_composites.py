"""Named LRP composites: which rule suits which part of a network."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from aopc_monitor.heatmaps.lrp import RelevancePropagation, check_epsilon
from aopc_monitor.heatmaps.rules.linear_formulas import gamma_rule, z_plus_rule
from aopc_monitor.heatmaps.rules.linear_operation import linear
from aopc_monitor.heatmaps.rules.table import (
    Rules,
    attnlrp_rules,
    in_convolutions,
    lrp_rules,
    z_box,
)
from aopc_monitor.perturbation.data_range import DataRange


@dataclass(frozen=True)
class LRPEpsilonPlus(RelevancePropagation):
    """Epsilon rule in dense layers, z+ rule in convolutions (Lapuschkin et al. 2017).

    Attributes:
        epsilon: stabiliser in units of the layers' outputs.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        >>> LRPEpsilonPlus()(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """

    epsilon: float = 0.01

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)

    def table(self, images: Tensor) -> Rules:
        """Epsilon, z+."""
        return {**lrp_rules(epsilon=self.epsilon), **in_convolutions(linear(z_plus_rule))}


@dataclass(frozen=True)
class LRPEpsilonGammaBox(RelevancePropagation):
    """Epsilon in dense layers, gamma in convolutions, z-box at the input (Montavon et al. 2019).

    Attributes:
        epsilon: stabiliser in units of the layers' outputs.
        gamma: how much positive contributions are favoured.
        data_range: (low, high) of valid inputs; a number, or one number per channel.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        >>> LRPEpsilonGammaBox(data_range=(0, 1))(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """

    epsilon: float = 0.01
    gamma: float = 0.25
    data_range: DataRange | None = None

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        if not self.gamma >= 0:
            raise ValueError(f"gamma={self.gamma} must not be negative")

    def table(self, images: Tensor) -> Rules:
        """Epsilon, gamma, z-box."""
        gamma = in_convolutions(linear(gamma_rule, gamma=self.gamma))
        return {**lrp_rules(epsilon=self.epsilon), **gamma, **z_box(self.data_range, images)}


@dataclass(frozen=True)
class DeepTaylor(RelevancePropagation):
    """Deep Taylor decomposition: z+ everywhere, z-box at the input (Montavon et al. 2017).

    Made for networks of ReLUs without positive biases; it shows what speaks for the class.

    Attributes:
        data_range: (low, high) of valid inputs; a number, or one number per channel.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        >>> DeepTaylor(data_range=(0, 1))(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """

    data_range: DataRange | None = None

    def table(self, images: Tensor) -> Rules:
        """z+, z-box."""
        return {**lrp_rules(linear(z_plus_rule), epsilon=0.0), **z_box(self.data_range, images)}


@dataclass(frozen=True)
class AttnLRP(RelevancePropagation):
    """AttnLRP: LRP-epsilon in which queries and keys get relevance too (Achtibat et al. 2024).

    Attributes:
        epsilon: stabiliser in units of the layers' outputs.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(144, 10))
        >>> AttnLRP()(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """

    epsilon: float = 0.01

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)

    def table(self, images: Tensor) -> Rules:
        """LRP-epsilon with shared products."""
        return attnlrp_rules(self.epsilon)

    @property
    def is_accounted_for(self) -> bool:
        """The gradient of a softmax does not conserve relevance, and nobody counts the rest."""
        return False
