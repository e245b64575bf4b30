"""Custom autograd functions: heatmaps are those of the operations that they are."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor import heatmaps
from aopc_monitor.heatmaps import Deconvolution, DeepLIFT, GuidedBackpropagation, Heatmap
from tests.heatmaps.engine.test_engine import EXACT, METHODS, assert_same, images
from tests.heatmaps.networks import Apply, between_convolutions

Function = Callable[[Tensor], Tensor]


class Reversed(torch.autograd.Function):
    """Gradient reversal, as in domain-adversarial training."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


class Scaled(Reversed):
    @staticmethod
    def forward(ctx: Any, x: Tensor, by: float) -> Tensor:  # type: ignore[override]
        ctx.by = by
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient * ctx.by, None


class Saving(torch.autograd.Function):
    """SiLU that keeps its input alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        weight = torch.sigmoid(x)
        return gradient * (weight * (1 + x * (1 - weight)))


class Rectified(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.clamp(min=0)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * (ctx.saved_tensors[0] > 0)


class Binarised(Reversed):
    """A sign whose gradient goes straight through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def written_into(x: Tensor) -> Tensor:
    y = Reversed.apply(x + 0)
    y *= 2
    F.relu(y, inplace=True)
    return y


TWINS: dict[str, tuple[Function, Function]] = {
    "reversal": (lambda x: Reversed.apply(x).relu(), lambda x: x.relu()),
    "reversal at once": (lambda x: Reversed.apply(2 * x), lambda x: 2 * x),
    "scaling": (lambda x: Scaled.apply(x, 0.1).tanh(), lambda x: x.tanh()),
    "written into": (written_into, lambda x: (2 * x).relu()),
    "swish": (lambda x: Saving.apply(2 * x), lambda x: F.silu(2 * x)),
    "rectifier": (lambda x: Rectified.apply(2 * x), lambda x: F.relu(2 * x)),
    "rectifier twice": (
        lambda x: Rectified.apply(Rectified.apply(x) - 1), lambda x: F.relu(F.relu(x) - 1)
    ),
    "sign": (lambda x: Binarised.apply(x), torch.sign),
}  # fmt: skip
OF_RECTIFIERS = (Deconvolution, GuidedBackpropagation)
WITH_RULES = [method for method in METHODS if not isinstance(method, heatmaps.Sensitivity)]


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("method", [*WITH_RULES, DeepLIFT()], ids=str)
def test_what_is_recognised_is_explained_as_what_it_is(method: Heatmap, name: str) -> None:
    if isinstance(method, OF_RECTIFIERS) and name not in ("swish", "rectifier", "rectifier twice"):
        pytest.skip("these methods ask for the gradient, which the function is about")
    custom, plain = (between_convolutions(Apply(function)) for function in TWINS[name])
    assert_same(method, custom, plain)


class Last(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = Reversed.apply(x)
        return outputs


def test_also_where_it_comes_last() -> None:
    plain = between_convolutions(nn.ReLU())
    assert_same(EXACT, nn.Sequential(plain, Last()), plain)


def test_gradients_stay_those_of_the_function() -> None:
    model = between_convolutions(Apply(Reversed.apply))
    plain = between_convolutions(nn.Identity())
    for name in ("gradient_x_input", "deconvolution_l2"):
        ours, theirs = (
            heatmaps.get(name)(m, images(), torch.tensor([0, 2])) for m in (model, plain)
        )
        torch.testing.assert_close(ours, -theirs if name == "gradient_x_input" else theirs)


class Mixed(Reversed):
    """Something else, of the same shape."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.flip(1) + x


class Summed(Reversed):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        return x + y - y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient, gradient


@pytest.mark.parametrize("function", [Mixed.apply, lambda x: Summed.apply(x, x.tanh())])
def test_what_is_not_recognised_is_named(function: Function) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        EXACT(between_convolutions(Apply(function)), images(), torch.tensor([0, 2]))
    assert "has no rule for: a hidden operation" in str(caught[0].message)
