"""Small networks and how they are spread over processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

SIZE, CLASSES = 12, 5


class Residual(nn.Module):
    """Convolutions, a skip connection and a BatchNorm that is fused with the one before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.norm(self.first(x)))))


class Attention(nn.Module):
    """A transformer's block, on the pixels of a feature map or on tokens."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(channels, 6), nn.GELU(), nn.Linear(6, channels))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2) if x.ndim == 4 else x
        normal = self.norm(tokens)
        tokens = tokens + self.attention(normal, normal, normal)[0]
        return tokens + self.mlp(tokens)


class Head(nn.Module):
    """Class probabilities: relevance starts in front of the softmax, so inside of the block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean(dim=1)).softmax(dim=-1)


def network(seed: int = 0) -> nn.Sequential:
    """A network of blocks: convolutional, residual, attention, head."""
    torch.manual_seed(seed)
    stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    return nn.Sequential(stem, Residual(4), nn.Dropout(0.5), Attention(4), Attention(4), Head(4))


def fully_sharded(model: nn.Sequential, **settings: Any) -> nn.Sequential:
    """The same network under FSDP2, its blocks one by one."""
    for block in model:
        if any(True for _ in block.parameters()):
            fully_shard(block, **settings)
    fully_shard(model, **settings)
    return model


def sharded_layer_by_layer(model: nn.Sequential) -> nn.Sequential:
    """The same, with a convolution and the BatchNorm that is fused with it in different blocks."""
    stem: Any = model[0]
    residual: Any = model[1]
    for layer in (*stem, residual.first, residual.norm, residual.second):
        if any(True for _ in layer.parameters()):
            fully_shard(layer)
    return fully_sharded(model)


class Mlp(nn.Module):
    """The half of a transformer's block that tensor parallelism cuts."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.up, self.down = nn.Linear(channels, 8), nn.Linear(8, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


class Patches(nn.Module):
    """Tokens of an image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, channels, 3, stride=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x).flatten(2).transpose(1, 2)


def mlps(seed: int = 0) -> nn.Sequential:
    """A network whose middle blocks tensor parallelism can cut."""
    torch.manual_seed(seed)
    return nn.Sequential(Patches(4), Mlp(4), Mlp(4), Head(4))


def cut(model: nn.Sequential, mesh: Any) -> nn.Sequential:
    """Its blocks under tensor parallelism."""
    for block in model:
        if isinstance(block, Mlp):
            parallelize_module(block, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
    return model


def images(count: int = 8, seed: int = 1) -> Tensor:
    """Images as the networks take them."""
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
