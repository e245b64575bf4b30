"""A small network that gives each pixel a class, as those of segmentation_models_pytorch do."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Sequential):
    def __init__(self, before: int, after: int) -> None:
        super().__init__(
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """Encoder, decoder with skipped connections, and a head of (N, classes, H, W) logits."""

    def __init__(self, classes: int, scale: float = 8.0) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.encoder = nn.ModuleList([Block(3, 4), Block(4, 8), Block(8, 8)])
        self.decoder = nn.ModuleList([Block(16, 8), Block(12, 4)])
        self.segmentation_head = nn.Conv2d(4, classes, 3, padding=1)
        with torch.no_grad():
            self.segmentation_head.weight.mul_(scale)

    def forward(self, images: Tensor) -> Tensor:
        skipped = [images]
        for number, block in enumerate(self.encoder):
            before = skipped[-1] if number == 0 else F.max_pool2d(skipped[-1], 2)
            skipped.append(block(before))
        found = skipped.pop()
        for block in self.decoder:
            upsampled = F.interpolate(found, scale_factor=2.0, mode="nearest")
            found = block(torch.cat([upsampled, skipped.pop()], dim=1))
        outputs: Tensor = self.segmentation_head(found)
        return outputs
