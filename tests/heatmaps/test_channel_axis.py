"""Channels are found second or last, by the places that are left or by what made them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps import GradCAM
from aopc_monitor.heatmaps.channel_axis import channel_axis
from tests.heatmaps.spaces import TARGET, inputs

CONVOLUTIONS: dict[int, Any] = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}


def second(activations: Tensor) -> Tensor:
    return activations.relu()


def normalised(activations: Tensor) -> Tensor:
    last = activations.movedim(1, -1)
    return nn.functional.layer_norm(last, last.shape[-1:])


def moved(activations: Tensor) -> Tensor:
    return activations.movedim(1, -1)


@pytest.mark.parametrize(
    ("shape", "stride", "make", "axis"),
    [
        # One dimension is always in proportion: only the operations tell.
        ((2, 2, 16), 2, second, 1),
        ((2, 2, 16), 2, normalised, 2),
        ((2, 2, 16), 2, moved, None),
        ((2, 2, 16, 24), 4, moved, 3),
        ((2, 2, 16, 16), 2, moved, None),  # 8 channels at 8 x 8 places
        ((2, 2, 16, 16), 2, normalised, 3),
        # Frames are thinned out otherwise than pixels.
        ((2, 2, 4, 16, 24), (1, 4, 4), moved, 4),
        ((2, 2, 4, 16, 24), (1, 4, 4), second, 1),
        ((2, 2, 8, 16, 24), (4, 4, 4), moved, 4),
        # Neither is in proportion: as the operations say, and second where they do not.
        ((2, 2, 16, 24), (1, 4), second, 1),
        ((2, 2, 16, 24), (1, 4), normalised, 3),
        ((2, 2, 16, 24), (1, 4), moved, 1),
    ],
)
def test_axis(
    shape: tuple[int, ...], stride: Any, make: Callable[[Tensor], Tensor], axis: int | None
) -> None:
    x = torch.rand(shape)
    layer = CONVOLUTIONS[x.ndim](2, 8 if shape[2:] == (16, 16) else 5, 1, stride)
    assert channel_axis(make(layer(x)), x) == axis


class OfSteps(nn.Module):
    """Tokens of a series (N, L, C), as in a transformer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.norm, self.head = nn.Linear(2, 6), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, series: Tensor) -> Tensor:
        steps = self.norm(self.embed(series.transpose(1, 2)))
        out: Tensor = self.head(steps.square().mean(dim=1))
        return out


def test_grad_cam_of_tokens_that_are_steps() -> None:
    model, x = OfSteps().double().eval(), inputs("series")
    steps = model.norm(model.embed(x.transpose(1, 2))).detach().requires_grad_()
    scores = model.head(steps.square().mean(dim=1)).gather(1, TARGET[:, None])
    (gradient,) = torch.autograd.grad(scores.sum(), steps)
    wanted = (steps * gradient.mean(dim=1, keepdim=True)).sum(dim=2).relu().detach()
    torch.testing.assert_close(GradCAM("norm")(model, x, TARGET), wanted)
    assert bool((wanted > 0).any())
