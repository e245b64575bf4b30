"""Values that a network writes over in place: heatmaps are those of its out-of-place twin."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from aopc_monitor.heatmaps import GuidedBackpropagation, Heatmap, Sensitivity
from tests.heatmaps.engine.test_engine import METHODS, assert_same, one_by_one
from tests.heatmaps.networks import Apply, between_convolutions

Function = Callable[[Tensor], Tensor]

CONVOLUTION = one_by_one()


def residual_in_place(x: Tensor) -> Tensor:
    x = CONVOLUTION(x)
    y = F.silu(x)
    x += CONVOLUTION(y)
    return x


def written_views(x: Tensor) -> Tensor:
    x = CONVOLUTION(x)
    first, last = x[:, :3], x[:, 3:]
    first.mul_(2)
    last.add_(first)
    return x


def written_slice(x: Tensor) -> Tensor:
    x = CONVOLUTION(x)
    y = F.silu(x + 0)
    x[:, :2] = y[:, 2:4]
    return x + y


def pasted_slice(x: Tensor) -> Tensor:
    x = CONVOLUTION(x)
    y = F.silu(x + 0)
    return torch.cat([y[:, 2:4], x[:, 2:]], dim=1) + y


def added_after_activation(x: Tensor) -> Tensor:
    y = F.silu(x)
    x += 1
    return CONVOLUTION(x) + y


def activated_view(x: Tensor) -> Tensor:
    x = CONVOLUTION(x)
    F.relu(x.view(len(x), -1), inplace=True)
    return x


def into_a_buffer(x: Tensor) -> Tensor:
    x = CONVOLUTION(x)
    buffer = torch.empty_like(x)
    buffer[:, 1::2] = x[:, ::2]
    buffer[:, ::2] = x[:, 1::2].tanh()
    return buffer


TWINS: dict[str, tuple[Function, Function]] = {
    "residual": (
        residual_in_place,
        lambda x: CONVOLUTION(x) + CONVOLUTION(F.silu(CONVOLUTION(x))),
    ),
    "views": (
        written_views,
        lambda x: torch.cat([2 * CONVOLUTION(x)[:, :3],
                             CONVOLUTION(x)[:, 3:] + 2 * CONVOLUTION(x)[:, :3]], dim=1),
    ),
    "slice": (written_slice, pasted_slice),
    "constant": (added_after_activation, lambda x: CONVOLUTION(x + 1) + F.silu(x)),
    "view": (activated_view, lambda x: CONVOLUTION(x).relu()),
    "relu": (lambda x: F.relu(CONVOLUTION(x), inplace=True), lambda x: CONVOLUTION(x).relu()),
    "leaky": (
        lambda x: F.leaky_relu_(CONVOLUTION(x), 0.2),
        lambda x: F.leaky_relu(CONVOLUTION(x), 0.2),
    ),
    "buffer": (
        into_a_buffer,
        lambda x: torch.stack(
            [CONVOLUTION(x)[:, 1::2].tanh(), CONVOLUTION(x)[:, ::2]], dim=2
        ).flatten(1, 2),
    ),
    "masked": (
        lambda x: CONVOLUTION(x).masked_fill_(torch.eye(6, dtype=torch.bool), 0.0),
        lambda x: CONVOLUTION(x) * (1 - torch.eye(6, dtype=torch.double)),
    ),
}  # fmt: skip


# Autograd itself refuses these where it needs what was written over.
ONLY_BY_RULES = ("residual", "constant")


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_writing_in_place_does_not_matter(method: Heatmap, name: str) -> None:
    if name in ONLY_BY_RULES and isinstance(method, (GuidedBackpropagation, Sensitivity)):
        pytest.skip("plain gradients cannot be taken here")
    in_place, out_of_place = TWINS[name]
    assert_same(
        method,
        between_convolutions(Apply(in_place)),
        between_convolutions(Apply(out_of_place)),
    )
