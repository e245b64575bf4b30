"""Networks that sort series."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn


class SeriesCNN(nn.Module):
    """Three convolutions over time with ReLU, the first two with a max pool, the mean over time.

    Args:
        in_channels: channels of the series.
        num_classes: number of logits.
        width: channels of the first convolution; twice as many of the others.

    Example:
        >>> import torch
        >>> SeriesCNN(6, 4)(torch.rand(2, 6, 100)).shape
        torch.Size([2, 4])
    """

    def __init__(self, in_channels: int, num_classes: int, width: int = 32) -> None:
        super().__init__()
        self.first = nn.Conv1d(in_channels, width, 7, padding=3)
        self.second = nn.Conv1d(width, 2 * width, 5, padding=2)
        self.third = nn.Conv1d(2 * width, 2 * width, 3, padding=1)
        self.output = nn.Linear(2 * width, num_classes)

    def forward(self, series: Tensor) -> Tensor:
        """Logits (N, num_classes) of series (N, in_channels, L), L at least 4."""
        features = F.max_pool1d(F.relu(self.first(series)), 2)
        features = F.max_pool1d(F.relu(self.second(features)), 2)
        features = F.relu(self.third(features)).mean(dim=2)
        logits: Tensor = self.output(features)
        return logits


class SeriesLSTM(nn.Module):
    """One LSTM over time, the maximum of each of its states over time, and one linear layer.

    Of series of 150 steps the last state alone has forgotten much, and learns later.

    Args:
        in_channels: channels of the series.
        num_classes: number of logits.
        width: of the hidden state.

    Example:
        >>> import torch
        >>> SeriesLSTM(6, 4)(torch.rand(2, 6, 100)).shape
        torch.Size([2, 4])
    """

    def __init__(self, in_channels: int, num_classes: int, width: int = 48) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(in_channels, width, batch_first=True)
        self.output = nn.Linear(width, num_classes)

    def forward(self, series: Tensor) -> Tensor:
        """Logits (N, num_classes) of series (N, in_channels, L)."""
        states, _ = self.recurrent(series.transpose(1, 2))
        logits: Tensor = self.output(states.amax(dim=1))
        return logits


SERIES_NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {
    "conv1d": SeriesCNN,
    "lstm": SeriesLSTM,
}
# The learning rate of a network, as a multiple of the plan's.
PACE = {"conv1d": 1.0, "lstm": 5.0}
